using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>
/// A real Redis server on a loopback port, which ends with the test. Skips the test where Redis isn't installed.
/// </summary>
internal sealed class RedisServer : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly Process process;
    private readonly string folder;

    private RedisServer(Process process, string folder, int port)
    {
        this.process = process;
        this.folder = folder;
        Address = $"redis://127.0.0.1:{port}";
    }

    public string Address { get; }

    public static async Task<RedisServer> StartAsync()
    {
        string? program = (Environment.GetEnvironmentVariable("PATH") ?? "")
            .Split(':')
            .Select(p => Path.Combine(p, "redis-server"))
            .FirstOrDefault(File.Exists);
        Assert.SkipWhen(program is null, "needs redis-server (Debian: apt-get install redis-server)");
        int port;
        using (var listener = new TcpListener(IPAddress.Loopback, 0))
        {
            listener.Start();
            port = ((IPEndPoint)listener.LocalEndpoint).Port;
        }
        string folder = Directory.CreateTempSubdirectory("simple-r1-redis-").FullName;
        var process = Process.Start(
            new ProcessStartInfo(
                program!,
                ["--port", port.ToString(), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
            )
            {
                RedirectStandardOutput = true,
            }
        )!;
        while (
            await process.StandardOutput.ReadLineAsync().WaitAsync(Patience) is { } line
            && !line.Contains("Ready to accept", StringComparison.Ordinal)
        ) { }
        _ = process.StandardOutput.ReadToEndAsync();
        return new(process, folder, port);
    }

    public void Dispose()
    {
        process.Kill();
        process.WaitForExit();
        process.Dispose();
        Directory.Delete(folder, recursive: true);
    }
}
