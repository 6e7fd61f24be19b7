using System.Diagnostics;
using SimpleR1.Cluster;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using SimpleR1.Server;
using SimpleR1.Server.Sources;

namespace SimpleR1.Benchmarks;

/// <summary>The server that <see cref="HttpAbuse"/> attacks: the quickstart's base model, in its own process.</summary>
internal static class HttpAbuseServer
{
    /// <summary>Starts the server as a child, abuses it, and prints how much memory it took.</summary>
    public static async Task AbuseAsync(TextWriter output)
    {
        string[] command = [.. ThisProgram.Command, "http-server"];
        var start = new ProcessStartInfo(command[0], command[1..])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        };
        using var child = Process.Start(start)!;
        try
        {
            string? line = await child.StandardOutput.ReadLineAsync();
            var address = new Uri(line ?? throw new InvalidOperationException("the server did not start"));
            output.WriteLine(
                $"abuse of simple-r1 serve recipes/tiny-base ({address}), one engine thread; "
                    + "good traffic: 2 clients, one completion of 32 tokens after another"
            );
            await new HttpAbuse(address, 1, output.WriteLine).RunAsync(CancellationToken.None);
            output.WriteLine($"peak memory of the server: {ProcessMemory.Peak(child.Id) / 1e6:F0} MB");
        }
        finally
        {
            child.StandardInput.Close();
            if (!child.WaitForExit(TimeSpan.FromSeconds(20)))
                child.Kill();
        }
    }

    /// <summary>Serves until standard input ends.</summary>
    public static async Task<int> RunAsync()
    {
        const string folder = "recipes/tiny-base";
        if (!Directory.Exists(folder))
            throw new DirectoryNotFoundException($"{folder} not found: start this in the repository's root");
        await using var source = new LocalCompletions(
            "tiny-base",
            Checkpoint.Load(folder),
            Tokenizer.Load(folder),
            new(),
            threads: 1
        );
        await using var server = await HttpServer.StartAsync(
            source,
            new() { Port = 0, DrainTimeout = TimeSpan.FromSeconds(5) }
        );
        Console.WriteLine(server.Address);
        await Console.In.ReadToEndAsync();
        return 0;
    }
}
