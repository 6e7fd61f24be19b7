using System.Net.Sockets;
using System.Text;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>One process that has connected to a <see cref="TcpStoreServer"/>.</summary>
internal sealed class TcpStoreConnection(TcpStoreEntries entries, TcpClient client)
{
    private const int MaxKeyBytes = 4096;
    private const int MaxKeys = 1024; // in one query

    private readonly NetworkStream stream = client.GetStream();
    private readonly Lock sending = new(); // answers of different threads must not mix

    /// <summary>Answers queries until the process leaves or sends what is not understood.</summary>
    public async Task ServeAsync()
    {
        try
        {
            bool valid =
                await QueryAsync() == TcpStoreQuery.Validate
                && BitConverter.ToUInt32(await BytesAsync(4)) == TcpStoreWire.Magic;
            while (valid)
                await AnswerAsync(await QueryAsync());
        }
        catch (Exception e) when (IsEnd(e))
        {
            // the process left, or sent what is not understood
        }
        finally
        {
            entries.CancelWait(this, () => { });
            Close();
        }
    }

    private static bool IsEnd(Exception e) =>
        e is IOException or SocketException or ObjectDisposedException or InvalidDataException;

    public void Close() => client.Dispose();

    private async Task AnswerAsync(TcpStoreQuery query)
    {
        switch (query)
        {
            case TcpStoreQuery.Ping:
                Send(await BytesAsync(4));
                break;
            case TcpStoreQuery.Set:
                entries.Set(await KeyAsync(), await ValueAsync());
                break;
            case TcpStoreQuery.Get:
                SendValue(entries.Get(await KeyAsync()));
                break;
            case TcpStoreQuery.Add:
                Send(BitConverter.GetBytes(entries.Add(await KeyAsync(), BitConverter.ToInt64(await BytesAsync(8)))));
                break;
            case TcpStoreQuery.CompareSet:
                SendValue(entries.CompareSet(await KeyAsync(), await ValueAsync(), await ValueAsync()));
                break;
            case TcpStoreQuery.Check:
                Send([(byte)(entries.ContainsAll(await KeysAsync()) ? 0 : 1)]);
                break;
            case TcpStoreQuery.Wait:
                entries.WaitFor(this, await KeysAsync(), () => Send([0]));
                break;
            case TcpStoreQuery.CancelWait:
                entries.CancelWait(this, () => Send([1]));
                break;
            case TcpStoreQuery.GetNumKeys:
                Send(BitConverter.GetBytes(entries.Count));
                break;
            case TcpStoreQuery.DeleteKey:
                Send(BitConverter.GetBytes(entries.Remove(await KeyAsync()) ? 1L : 0));
                break;
            default:
                throw new InvalidDataException();
        }
    }

    /// <summary>
    /// Sends an answer. Answers are small: the system takes them without waiting, or the other end is not reading.
    /// </summary>
    private void Send(byte[] bytes)
    {
        lock (sending)
        {
            client.SendTimeout = 1000;
            try
            {
                stream.Write(bytes);
            }
            catch (Exception e) when (e is IOException or ObjectDisposedException)
            {
                Close(); // the loop of this connection notices
            }
        }
    }

    private void SendValue(byte[] value) => Send([.. BitConverter.GetBytes((ulong)value.Length), .. value]);

    private async Task<TcpStoreQuery> QueryAsync() => (TcpStoreQuery)(await BytesAsync(1))[0];

    private async Task<byte[]> BytesAsync(int count)
    {
        byte[] bytes = new byte[count];
        await stream.ReadExactlyAsync(bytes);
        return bytes;
    }

    private async Task<byte[]> SizedAsync(int most)
    {
        ulong length = BitConverter.ToUInt64(await BytesAsync(8));
        return length <= (ulong)most ? await BytesAsync((int)length) : throw new InvalidDataException();
    }

    private async Task<string> KeyAsync() => Encoding.UTF8.GetString(await SizedAsync(MaxKeyBytes));

    private Task<byte[]> ValueAsync() => SizedAsync(TcpStoreWire.MaxValueBytes);

    private async Task<List<string>> KeysAsync()
    {
        ulong count = BitConverter.ToUInt64(await BytesAsync(8));
        if (count > MaxKeys)
            throw new InvalidDataException();
        var keys = new List<string>();
        for (ulong i = 0; i < count; i++)
            keys.Add(await KeyAsync());
        return keys;
    }
}
