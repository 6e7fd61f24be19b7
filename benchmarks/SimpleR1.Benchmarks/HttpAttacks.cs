using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace SimpleR1.Benchmarks;

/// <summary>
/// The attacks of <see cref="HttpAbuse"/> that need a socket. Each returns the status of the answer; 0 is none.
/// </summary>
internal sealed class HttpAttacks(Uri server)
{
    private const int HugeChunk = 1 << 16; // bytes; 1 << 14 of them are a gigabyte
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>One of <see cref="MalformedRequests"/>.</summary>
    public async Task<int> MalformedAsync(int number, CancellationToken stop)
    {
        string request = MalformedRequests.All[number % MalformedRequests.All.Length];
        using var socket = await ConnectAsync(stop);
        await SendAsync(socket, Encoding.Latin1.GetBytes(request), stop);
        if (request == MalformedRequests.Incomplete)
            socket.Shutdown(SocketShutdown.Send); // otherwise the server waits for more, which is the slow attack
        return await StatusAsync(socket, stop);
    }

    /// <summary>A header that comes at a byte a second, until the server ends it.</summary>
    public async Task<int> SlowAsync(int number, CancellationToken stop)
    {
        const string head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX: aaaaaaaaaaaaaaaaaaaaaaaa";
        using var socket = await ConnectAsync(stop);
        var answer = StatusAsync(socket, stop);
        foreach (byte next in Encoding.ASCII.GetBytes(head))
        {
            if (!await SendAsync(socket, [next], stop))
                break;
            if (await Task.WhenAny(answer, Task.Delay(1000, stop)) == answer)
                break;
        }
        return await answer;
    }

    /// <summary>A gigabyte, announced or in chunks, for as long as the server takes it.</summary>
    public async Task<int> HugeAsync(int number, CancellationToken stop)
    {
        bool chunked = number % 2 == 1;
        string length = chunked ? "Transfer-Encoding: chunked" : "Content-Length: 1073741824";
        string spaces = new(' ', HugeChunk);
        byte[] head = Encoding.ASCII.GetBytes(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                + $"{length}\r\n\r\n"
        );
        byte[] part = Encoding.ASCII.GetBytes(chunked ? $"{HugeChunk:x}\r\n{spaces}\r\n" : spaces);

        using var socket = await ConnectAsync(stop);
        var answer = StatusAsync(socket, stop);
        await SendAsync(socket, head, stop);
        for (int sent = 0; sent < 1 << 14 && !answer.IsCompleted; sent++)
            if (!await SendAsync(socket, part, stop))
                break;
        return await answer;
    }

    /// <summary>Leaves after the first event of a long answer.</summary>
    public async Task<int> LeaveAsync(int number, CancellationToken stop)
    {
        string request = MalformedRequests.Json(
            "{\"prompt\":\"Once upon a time\",\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true,\"n\":2}"
        );
        using var socket = await ConnectAsync(stop);
        await SendAsync(socket, Encoding.ASCII.GetBytes(request), stop);
        int status = await StatusAsync(socket, stop, untilEnd: false);
        socket.LingerState = new(true, 0); // a reset, as from a process that was killed
        return status;
    }

    private async Task<Socket> ConnectAsync(CancellationToken stop)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(server.Host, server.Port, stop);
        return socket;
    }

    /// <returns>False if the server has hung up.</returns>
    private static async Task<bool> SendAsync(Socket socket, byte[] bytes, CancellationToken stop)
    {
        try
        {
            for (int sent = 0; sent < bytes.Length; )
                sent += await socket.SendAsync(bytes.AsMemory(sent), stop);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>The answer's status; 0 if the connection ended without one.</summary>
    /// <param name="untilEnd">Reads all of the answer, not only its beginning.</param>
    private static async Task<int> StatusAsync(Socket socket, CancellationToken stop, bool untilEnd = true)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(Patience);
        var head = new StringBuilder();
        byte[] buffer = new byte[4096];
        try
        {
            while (await socket.ReceiveAsync(buffer, deadline.Token) is > 0 and var count)
            {
                if (head.Length < 64)
                    head.Append(Encoding.Latin1.GetString(buffer, 0, count));
                if (!untilEnd)
                    break;
            }
        }
        catch (SocketException) { }
        catch (OperationCanceledException) when (!stop.IsCancellationRequested)
        {
            throw new TimeoutException(
                $"waited {Patience.TotalSeconds} s for the server to answer or hang up; it sent '{head}'"
            );
        }
        bool hasStatus = head.Length > 12; // HTTP/1.1 200
        return hasStatus && int.TryParse(head.ToString(9, 3), CultureInfo.InvariantCulture, out int status)
            ? status
            : 0;
    }
}
