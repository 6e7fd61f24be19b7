using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using SimpleR1.Vllm.Rendezvous;
using Xunit;

namespace SimpleR1.Tests.Vllm;

/// <summary>
/// PyTorch's TCPStore and vLLM's exchange of the NCCL id, against a recording of PyTorch 2.11 (tests/data/tcpstore,
/// with the program that made it).
/// </summary>
public sealed class RendezvousTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static CancellationToken Token => TestContext.Current.CancellationToken;
    private static readonly JsonElement Recording = JsonDocument
        .Parse(
            File.ReadAllBytes(Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tcpstore", "recording.json"))
        )
        .RootElement;

    private static byte[] Id => Convert.FromHexString(Recording.GetProperty("id").GetString()!);

    private static (bool Client, byte[] Bytes)[] Log(string name) =>
        [
            .. Recording
                .GetProperty(name)
                .EnumerateArray()
                .Select(e => (e[0].GetString() == "client", Convert.FromHexString(e[1].GetString()!))),
        ];

    private static TcpStoreServer Serve() => new(new(IPAddress.Loopback, 0));

    private static TcpStoreClient Connect(TcpStoreServer server, double seconds = 60) =>
        new("127.0.0.1", server.Port, TimeSpan.FromSeconds(seconds));

    private static async Task<byte[]> ReadAsync(Stream stream, int count)
    {
        byte[] bytes = new byte[count];
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Token);
        deadline.CancelAfter(Patience);
        await stream.ReadExactlyAsync(bytes, deadline.Token);
        return bytes;
    }

    /// <summary>
    /// Our server answers a PyTorch worker's bytes, byte for byte, as PyTorch's own server did.
    /// </summary>
    [Theory, InlineData("log"), InlineData("libuv_log")]
    public async Task Server_answers_a_recorded_PyTorch_worker_as_PyTorch_did(string log)
    {
        using var server = Serve();
        using var master = Connect(server); // the group's rank 0 has counted itself in, as in the recording
        using var worker = new TcpClient("127.0.0.1", server.Port);
        bool waiting = false;
        foreach (var (client, bytes) in Log(log))
        {
            if (client)
            {
                await worker.GetStream().WriteAsync(bytes, Token);
                // WAIT for the id, which rank 0 sets a second later.
                if (!waiting && bytes[0] == 6)
                {
                    waiting = true;
                    _ = Task.Run(() => master.Set("broadcast_from/0/0", PickledNcclId.Write(Id)), Token);
                }
            }
            else
                Assert.Equal(
                    Convert.ToHexString(bytes),
                    Convert.ToHexString(await ReadAsync(worker.GetStream(), bytes.Length))
                );
        }
        Assert.True(waiting);
    }

    /// <summary>Our worker sends, byte for byte, what PyTorch's sent, and reads what its server answered.</summary>
    [Fact]
    public async Task Client_joins_a_recorded_PyTorch_master_as_PyTorch_did()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var log = Log("log")[..8]; // validate, ping, count in, wait for the id, get it
        var master = Task.Run(
            async () =>
            {
                using var worker = await listener.AcceptTcpClientAsync(Token);
                byte[] nonce = [];
                for (int i = 0; i < log.Length; i++)
                {
                    byte[] expected = [.. log[i].Bytes];
                    if (i == 0)
                        nonce = expected[^4..]; // the worker's process id
                    if (log[i].Client)
                    {
                        byte[] sent = await ReadAsync(worker.GetStream(), expected.Length);
                        if (i == 0)
                        {
                            nonce = sent[^4..];
                            expected = [.. expected[..^4], .. nonce];
                        }
                        Assert.Equal(Convert.ToHexString(expected), Convert.ToHexString(sent));
                    }
                    else
                        await worker.GetStream().WriteAsync(i == 1 ? nonce : expected, Token);
                }
            },
            Token
        );
        using var client = new TcpStoreClient("127.0.0.1", ((IPEndPoint)listener.LocalEndpoint).Port, Patience);
        Assert.Equal(Id, PickledNcclId.Read(client.Get("broadcast_from/0/0")));
        await master;
    }

    [Fact]
    public void Pickled_id_is_Pythons_byte_for_byte_and_nothing_else_is_read()
    {
        byte[] python = Log("log")[7].Bytes[8..]; // after its length
        Assert.Equal(Convert.ToHexString(python), Convert.ToHexString(PickledNcclId.Write(Id)));
        Assert.Equal(Id, PickledNcclId.Read(python));
        foreach (int at in (int[])[1, 13, 40, 100, python.Length - 1])
            Assert.Contains(
                "ncclUniqueId",
                Assert
                    .Throws<InvalidDataException>(() =>
                        PickledNcclId.Read([.. python.Select((b, i) => i == at ? (byte)(b ^ 2) : b)])
                    )
                    .Message
            );
        Assert.Throws<InvalidDataException>(() => PickledNcclId.Read(python.AsSpan(1)));
        Assert.Throws<InvalidDataException>(() => PickledNcclId.Read([]));
        Assert.Throws<ArgumentException>(() => PickledNcclId.Write(new byte[127]));
    }

    [Fact]
    public async Task Get_waits_for_the_key_and_counts_are_shared()
    {
        using var server = Serve();
        using var first = Connect(server);
        using var second = Connect(server);
        Assert.Equal(2, first.Joined);
        var waiting = Task.Run(() => second.Get("late"), Token);
        first.Set("early", "x"u8);
        first.Set("late", "here"u8);
        Assert.Equal("here"u8.ToArray(), await waiting.WaitAsync(Patience, Token));
        Assert.Equal((5, 3), (first.Add("sum", 5), second.Add("sum", -2)));
        Assert.Equal("3"u8.ToArray(), first.Get("sum"));
    }

    [Fact]
    public void Waits_end_with_what_was_awaited()
    {
        using var server = Serve();
        using var client = Connect(server, 0.2);
        Assert.Contains("the key 'never'", Assert.Throws<TimeoutException>(() => client.Get("never")).Message);
        server.Dispose();
        Assert.Contains("to listen at 127.0.0.1:", Assert.Throws<TimeoutException>(() => Connect(server, 0.1)).Message);
    }

    [Theory]
    [InlineData("47 45 54 20 2F")] // GET /, from a browser
    [InlineData("00 00 00 00 00")] // another magic number
    [InlineData("00 CE F7 85 3C 63")] // a request that is none
    [InlineData("00 CE F7 85 3C 01 FF FF FF FF FF FF FF 7F")] // a key of 2^63 bytes
    [InlineData("00 CE F7 85 3C 05 FF FF FF FF 00 00 00 00")] // four billion keys
    [InlineData("00 CE F7 85 3C 03 01 00 00 00 00 00 00 00 61")] // a value that is not there
    public async Task Server_hangs_up_on_nonsense_and_serves_the_others(string hex)
    {
        using var server = Serve();
        using var stranger = new TcpClient("127.0.0.1", server.Port);
        await stranger
            .GetStream()
            .WriteAsync(Convert.FromHexString(hex.Replace(" ", "", StringComparison.Ordinal)), Token);
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(Token);
        deadline.CancelAfter(Patience);
        try
        {
            Assert.Equal(0, await stranger.GetStream().ReadAsync(new byte[1], deadline.Token));
        }
        catch (IOException) { } // reset
        using var good = Connect(server);
        good.Set("k", "v"u8);
        Assert.Equal("v"u8.ToArray(), good.Get("k"));
    }
}
