using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace SimpleR1.Benchmarks;

/// <summary>How a phase went: what the attackers were answered, and how long the good requests beside them took.</summary>
/// <param name="Answers">How often each status came; 0 is a connection that the server ended without one.</param>
/// <param name="Wrong">Answers that this attack must not get.</param>
/// <param name="Good">Good requests during the attack, and how many of all failed.</param>
/// <param name="Quiet">Milliseconds that good requests took just before and just after the attack.</param>
/// <param name="During">And during it.</param>
public sealed record AbusePhase(
    string Name,
    int Attacks,
    IReadOnlyDictionary<int, int> Answers,
    int Wrong,
    int Good,
    int GoodFailed,
    Latency Quiet,
    Latency During
);

/// <summary>In milliseconds.</summary>
public sealed record Latency(double Median, double P99)
{
    internal static Latency Of(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        double At(double part) =>
            sorted.Length == 0 ? double.NaN : sorted[Math.Min(sorted.Length - 1, (int)(part * sorted.Length))];
        return new(At(0.5), At(0.99));
    }
}

/// <summary>
/// Everything that a server on the open net is sent, against one on this machine, while good requests go on: bad ones by the thousand, slow
/// connections, endless bodies, clients that leave. Only ever against the loopback interface.
/// </summary>
/// <param name="scale">1 is the full size; tests run a small part.</param>
public sealed class HttpAbuse(Uri server, double scale, Action<string> log)
{
    private const int GoodClients = 2,
        Attackers = 4;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private readonly HttpClient client = new() { BaseAddress = server, Timeout = Patience };

    private delegate Task<int> Attack(int number, CancellationToken stop);

    /// <summary>Runs all phases and prints a line each.</summary>
    /// <exception cref="TimeoutException">KV blocks stayed in use afterwards.</exception>
    public async Task<IReadOnlyList<AbusePhase>> RunAsync(CancellationToken stop)
    {
        if (!IPAddress.TryParse(server.Host, out var address) || !IPAddress.IsLoopback(address))
            throw new ArgumentException($"{server} is not on this machine; this is no tool for others' servers");
        double seconds = 20 * Math.Pow(scale, 2.0 / 3);
        await GoodAsync(new ConcurrentBag<double>(), stop); // the first is slower
        log(
            $"{"", -30}{"attacks", 8}   good requests, ms: quiet {"median", 7}{"p99", 8}   attacked {"median", 7}{"p99", 8}{"ratio", 7}{"failed", 8}   answers"
        );
        List<AbusePhase> phases = [];
        async Task Add(string name, double attacks, Attack attack, params int[] expected)
        {
            phases.Add(await PhaseAsync(name, (int)Math.Ceiling(attacks), seconds, attack, expected, stop));
            Print(phases[^1]);
        }
        await Add(
            "malformed requests",
            10_000 * scale,
            MalformedAsync,
            0,
            400,
            401,
            403,
            404,
            405,
            408,
            411,
            413,
            414,
            415,
            431,
            501,
            505
        );
        await Add("slow connections", 1_000 * scale, SlowAsync, 0, 408);
        await Add("bodies of 1 GB", Math.Max(2, 20 * scale), HugeAsync, 0, 413);
        await Add("n = 1,000,000", 1_000 * scale, (_, s) => PostAsync("{\"prompt\":\"a\",\"n\":1000000}", s), 400);
        string deep = new('[', 100_000);
        await Add("JSON of 100,000 levels", 1_000 * scale, (_, s) => PostAsync("{\"prompt\":" + deep, s), 400);
        await Add("clients that leave mid-stream", 1_000 * scale, LeaveAsync, 200);
        await IdleAsync(stop);
        log("all KV blocks are free, nothing runs or waits");
        return phases;
    }

    private void Print(AbusePhase p) =>
        log(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{p.Name, -30}{p.Attacks, 8}                            {p.Quiet.Median, 7:F1}{p.Quiet.P99, 8:F1}            {p.During.Median, 7:F1}{p.During.P99, 8:F1}{p.During.P99 / p.Quiet.P99, 7:F2}{p.GoodFailed, 8}   {string.Join(", ", p.Answers.OrderBy(a => a.Key).Select(a => $"{(a.Key == 0 ? "hung up" : a.Key)} x {a.Value}"))}{(p.Wrong > 0 ? $"   WRONG: {p.Wrong}" : "")}"
            )
        );

    /// <summary>Good requests one after another all the time; in the middle half of it the attacks, spread evenly, all of them at least.</summary>
    private async Task<AbusePhase> PhaseAsync(
        string name,
        int attacks,
        double seconds,
        Attack attack,
        int[] expected,
        CancellationToken stop
    )
    {
        var answers = new ConcurrentDictionary<int, int>();
        ConcurrentBag<double> quiet = [],
            during = [],
            now = quiet;
        int failed = 0;
        using var over = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var good = Enumerable
            .Range(0, GoodClients)
            .Select(_ =>
                Task.Run(
                    async () =>
                    {
                        while (!over.IsCancellationRequested)
                            if (!await GoodAsync(Volatile.Read(ref now), stop))
                                Interlocked.Increment(ref failed);
                    },
                    stop
                )
            )
            .ToArray();
        await Task.Delay(TimeSpan.FromSeconds(seconds / 2), stop);
        Volatile.Write(ref now, during);
        await AttackAsync(
            attacks,
            seconds,
            attack,
            answers,
            all: name.StartsWith("slow", StringComparison.Ordinal),
            stop
        );
        Volatile.Write(ref now, quiet);
        await Task.Delay(TimeSpan.FromSeconds(seconds / 2), stop);
        over.Cancel();
        await Task.WhenAll(good);
        return new(
            name,
            attacks,
            answers,
            answers.Where(a => !expected.Contains(a.Key)).Sum(a => a.Value),
            during.Count,
            failed,
            Latency.Of(quiet),
            Latency.Of(during)
        );
    }

    /// <param name="all">Slow attacks must all be under way at once; others take turns.</param>
    private static async Task AttackAsync(
        int attacks,
        double seconds,
        Attack attack,
        ConcurrentDictionary<int, int> answers,
        bool all,
        CancellationToken stop
    )
    {
        var clock = Stopwatch.StartNew();
        int next = 0,
            lanes = all ? attacks : Math.Min(attacks, Attackers);
        await Task.WhenAll(
            Enumerable
                .Range(0, lanes)
                .Select(_ =>
                    Task.Run(
                        async () =>
                        {
                            for (int number; (number = Interlocked.Increment(ref next) - 1) < attacks; )
                            {
                                var wait =
                                    TimeSpan.FromSeconds(seconds * (all ? 0.25 : 1) * number / attacks) - clock.Elapsed;
                                if (wait > TimeSpan.Zero)
                                    await Task.Delay(wait, stop);
                                answers.AddOrUpdate(await attack(number, stop), 1, (_, count) => count + 1);
                            }
                        },
                        stop
                    )
                )
        );
        if (clock.Elapsed.TotalSeconds < seconds)
            await Task.Delay(TimeSpan.FromSeconds(seconds) - clock.Elapsed, stop);
    }

    private async Task<bool> GoodAsync(ConcurrentBag<double> latencies, CancellationToken stop)
    {
        long start = Stopwatch.GetTimestamp();
        int status = await PostAsync("{\"prompt\":\"Q: 12+30-5\\nA:\",\"max_tokens\":32,\"ignore_eos\":true}", stop);
        latencies.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
        return status == 200;
    }

    private async Task<int> PostAsync(string json, CancellationToken stop)
    {
        using var content = new StringContent(json, Encoding.UTF8, "application/json");
        using var response = await client.PostAsync("/v1/completions", content, stop);
        if ((int)response.StatusCode >= 500)
            throw new InvalidOperationException($"the server failed: {await response.Content.ReadAsStringAsync(stop)}");
        return (int)response.StatusCode;
    }

    // ---- attacks

    private const string Incomplete = "\r\n\r\n\r\nx";

    private static readonly string[] Malformed =
    [
        "GET\r\n\r\n",
        Incomplete,
        "GET / HTTP/9.9\r\n\r\n",
        "\u0016\u0003\u0001\u0002\0\u0001\0\u0001",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /%zz%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "PATCH /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        Post("Content-Length: -1", ""),
        Post("Content-Length: 99999999999999999999", ""),
        Post("Content-Length: 3\r\nContent-Length: 4", "abcd"),
        Post("Transfer-Encoding: chunked", "zz\r\n"),
        Post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"),
        Post("Transfer-Encoding: gzip", "x"),
        Json(""),
        Json("{"),
        Json("null"),
        Json("[]"),
        Json("\"text\""),
        Json("{}"),
        Json("{\"prompt\":1}"),
        Json("{\"prompt\":\"a\",\"n\":\"many\"}"),
        Json("{\"prompt\":\"a\",\"temperature\":1e999}"),
        Json("{\"prompt\":\"\\ud800\"}"),
        Json("{\"prompt\":\"\u00ff\"}"),
        Json("{\"\\ud800\":1}"),
        Json("{\"prompt\":[1,\"a\"]}"),
        Json("{\"prompt\":[99999999999]}"),
        Json("{\"prompt\":\"a\",\"stop\":[\"\"]}"),
        Json("{\"prompt\":\"a\",\"logit_bias\":{\"-1\":1}}"),
        Json("{\"prompt\":\"a\",\"max_tokens\":-1}"),
        Json("{\"prompt\":\"a\",\"prompt\":\"b\"}"),
        Json("{\"prompt\":\"a\",\"logprobs\":1e9}"),
        Json("{\"prompt\":\"a\",\"unknown\":1}"),
        Json("{\"model\":\"other\",\"prompt\":\"a\"}"),
        Json("{\"tokens\":[-1]}").Replace("/v1/completions", "/detokenize", StringComparison.Ordinal),
    ];

    private static string Post(string header, string body) =>
        $"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{header}\r\nConnection: close\r\n\r\n{body}";

    private static string Json(string body) => Post($"Content-Length: {body.Length}", body);

    private async Task<int> MalformedAsync(int number, CancellationToken stop)
    {
        using var socket = await ConnectAsync(stop);
        await SendAsync(socket, Encoding.Latin1.GetBytes(Malformed[number % Malformed.Length]), stop);
        if (Malformed[number % Malformed.Length] == Incomplete)
            socket.Shutdown(SocketShutdown.Send); // else the server waits for more, which is the slow attack
        return await StatusAsync(socket, stop);
    }

    /// <summary>A header that comes a byte a second, until the server has enough.</summary>
    private async Task<int> SlowAsync(int number, CancellationToken stop)
    {
        using var socket = await ConnectAsync(stop);
        var answer = StatusAsync(socket, stop);
        foreach (
            byte next in Encoding.ASCII.GetBytes(
                "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX: aaaaaaaaaaaaaaaaaaaaaaaa"
            )
        )
        {
            if (!await SendAsync(socket, [next], stop) || await Task.WhenAny(answer, Task.Delay(1000, stop)) == answer)
                break;
        }
        return await answer;
    }

    /// <summary>A gigabyte, announced or in chunks, for as long as the server takes it.</summary>
    private async Task<int> HugeAsync(int number, CancellationToken stop)
    {
        using var socket = await ConnectAsync(stop);
        bool chunked = number % 2 == 1;
        var answer = StatusAsync(socket, stop);
        await SendAsync(
            socket,
            Encoding.ASCII.GetBytes(
                $"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{(chunked ? "Transfer-Encoding: chunked" : "Content-Length: 1073741824")}\r\n\r\n"
            ),
            stop
        );
        byte[] spaces = Encoding.ASCII.GetBytes(
            chunked ? $"10000\r\n{new string(' ', 0x10000)}\r\n" : new string(' ', 0x10000)
        );
        for (int sent = 0; sent < 1 << 14 && !answer.IsCompleted; sent++)
            if (!await SendAsync(socket, spaces, stop))
                break;
        return await answer;
    }

    /// <summary>Leaves after the first event of a long answer.</summary>
    private async Task<int> LeaveAsync(int number, CancellationToken stop)
    {
        using var socket = await ConnectAsync(stop);
        await SendAsync(
            socket,
            Encoding.ASCII.GetBytes(
                Json("{\"prompt\":\"Once upon a time\",\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true,\"n\":2}")
            ),
            stop
        );
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

    /// <returns>False where the server has hung up.</returns>
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

    /// <summary>The answer's status; 0 where the connection ended without one.</summary>
    private static async Task<int> StatusAsync(Socket socket, CancellationToken stop, bool untilEnd = true)
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(stop);
        deadline.CancelAfter(Patience);
        var (head, buffer) = (new StringBuilder(), new byte[4096]);
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
                $"waited {Patience.TotalSeconds} s for the server to answer or hang up; it said '{head}'"
            );
        }
        return head.Length > 12 && int.TryParse(head.ToString(9, 3), CultureInfo.InvariantCulture, out int status)
            ? status
            : 0;
    }

    private async Task IdleAsync(CancellationToken stop)
    {
        string[] zero =
        [
            "simple_r1_kv_blocks_in_use 0\n",
            "simple_r1_running_sequences 0\n",
            "simple_r1_waiting_sequences 0\n",
            "simple_r1_admitted_sequences 0\n",
            "simple_r1_body_bytes 0\n",
        ];
        for (var clock = Stopwatch.StartNew(); ; await Task.Delay(20, stop))
        {
            string metrics = await client.GetStringAsync("/metrics", stop);
            if (zero.All(line => metrics.Contains(line, StringComparison.Ordinal)))
                return;
            if (clock.Elapsed > Patience)
                throw new TimeoutException(
                    $"waited {Patience.TotalSeconds} s for all KV blocks to be free:\n{metrics}"
                );
        }
    }
}
