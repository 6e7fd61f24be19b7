using System.Diagnostics;
using System.Text.Json;
using SimpleR1.Tests.Cli;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>
/// Two hosts, made with network namespaces and a cable (veth) between them: a run across them, and a cut of the cable that heals.
/// </summary>
[Collection("worker processes")] // one class at a time: each fills the machine
public sealed class NetworkNamespaceTests : IAsyncDisposable
{
    private const string HeadAddress = "10.77.0.1",
        OtherAddress = "10.77.0.2",
        Join = HeadAddress + ":7400";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(150),
        Cut = TimeSpan.FromSeconds(20);

    private readonly string head = $"sr1h{Environment.ProcessId}",
        other = $"sr1o{Environment.ProcessId}";
    private readonly string key = ClusterKey.NewText();
    private readonly string runs = Directory.CreateTempSubdirectory("simple-r1-netns-").FullName;
    private readonly List<ProgramRun> programs = [];

    private static CancellationToken Cancel => TestContext.Current.CancellationToken;

    public async ValueTask DisposeAsync()
    {
        foreach (var program in programs.Where(p => !p.HasEnded))
            program.Signal(ProgramRun.Kill);
        foreach (var program in programs)
            program.Dispose();
        await IpAsync("netns", "del", head);
        await IpAsync("netns", "del", other);
        Directory.Delete(runs, recursive: true);
    }

    private static async Task<(int Code, string Said)> IpAsync(params string[] arguments)
    {
        try
        {
            using var ip = Process.Start(new ProcessStartInfo("ip", arguments) { RedirectStandardError = true })!;
            string said = await ip.StandardError.ReadToEndAsync();
            await ip.WaitForExitAsync();
            return (ip.ExitCode, said);
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            return (127, e.Message);
        } // there is no ip
    }

    private async Task MakeHostsAsync()
    {
        string[][] commands =
        [
            ["netns", "add", head],
            ["netns", "add", other],
            ["link", "add", "cable", "netns", head, "type", "veth", "peer", "name", "cable", "netns", other],
            .. new[] { (head, HeadAddress), (other, OtherAddress) }.SelectMany(host =>
                new string[][]
                {
                    ["-n", host.Item1, "addr", "add", host.Item2 + "/24", "dev", "cable"],
                    ["-n", host.Item1, "link", "set", "cable", "up"],
                    ["-n", host.Item1, "link", "set", "lo", "up"],
                }
            ),
        ];
        foreach (string[] command in commands)
        {
            var (code, said) = await IpAsync(command);
            Assert.SkipWhen(
                code != 0,
                $"needs network namespaces (root, and Debian's iproute2): ip {string.Join(' ', command)}: {said}"
            );
        }
    }

    private string[] Launcher(string host) => ["ip", "netns", "exec", host, "env", "SIMPLE_R1_KEY=" + key];

    private ProgramRun On(string host, params string[] arguments)
    {
        var program = ProgramRun.StartBy(Launcher(host), arguments);
        programs.Add(program);
        return program;
    }

    [Fact]
    public async Task Run_across_two_hosts_goes_on_after_the_cable_was_cut_for_20_seconds()
    {
        await MakeHostsAsync();
        var server = On(head, "head", "--address", HeadAddress);
        await server.SaysAsync("head ready");
        On(head, "worker", "--join", Join, "--name", "near", "--threads", "1");
        On(other, "worker", "--join", Join, "--name", "far", "--threads", "1");
        var trainer = Trainer();
        await WaitAsync(trainer, FarIsReadyAsync, "the far worker to hold weights");
        await trainer.SaysAsync("step 3/");

        double outAfter = await CutAsync(trainer);
        var clock = Stopwatch.StartNew();
        await WaitAsync(trainer, FarIsReadyAsync, "the far worker to be back");
        TestContext.Current.SendDiagnosticMessage(
            $"cut: out of rotation after {outAfter:F1} s; "
                + $"back with current weights {clock.Elapsed.TotalSeconds:F1} s after it healed"
        );
        await ContinuesAsync(trainer, "the run to continue with both");
        trainer.Signal(ProgramRun.Terminate);
        Assert.Equal(143, await trainer.EndAsync()); // steps are missing
        Assert.Contains("and saved", trainer.Output);
    }

    private ProgramRun Trainer() =>
        On(
            head,
            "train",
            "recipes/quickstart.yaml",
            "--join",
            Join,
            "--runs",
            runs,
            "--set",
            "name=a",
            "--set",
            "data.train.count=100",
            "--set",
            "data.evaluation.count=8",
            "--set",
            "rollout.prompts_per_step=4",
            "--set",
            "rollout.samples_per_prompt=4",
            "--set",
            "training.steps=100000",
            "--set",
            "training.evaluate_every=0",
            "--set",
            "workers.kv_cache_mib=8"
        );

    /// <summary>Cuts the cable for a while, in which the run continues with the near worker.</summary>
    /// <returns>Seconds until the far worker was out of rotation.</returns>
    private async Task<double> CutAsync(ProgramRun trainer)
    {
        Assert.Equal(0, (await IpAsync("-n", other, "link", "set", "cable", "down")).Code);
        var clock = Stopwatch.StartNew();
        await WaitAsync(
            trainer,
            async () => await FarStateAsync() is null or "silent" or "suspect" or "dead",
            "the far worker to be out of rotation"
        );
        double outAfter = clock.Elapsed.TotalSeconds;
        await ContinuesAsync(trainer, "the run to continue with the near worker");
        var left = Cut - clock.Elapsed;
        if (left > TimeSpan.Zero)
            await Task.Delay(left, Cancel);
        Assert.Equal(0, (await IpAsync("-n", other, "link", "set", "cable", "up")).Code);
        return outAfter;
    }

    private async Task ContinuesAsync(ProgramRun trainer, string awaited)
    {
        int before = Steps(trainer);
        await WaitAsync(trainer, () => Task.FromResult(Steps(trainer) > before + 1), awaited);
    }

    private async Task<bool> FarIsReadyAsync() => await FarStateAsync() == "ready";

    /// <returns>The far worker's state in the head's status; null when it is not in there.</returns>
    private async Task<string?> FarStateAsync()
    {
        using var status = ProgramRun.StartBy(Launcher(head), "status", "--join", Join, "--json");
        if (await status.EndAsync() != 0)
            return "unknown";
        using var json = JsonDocument.Parse(status.Output);
        return json
            .RootElement.GetProperty("workers")
            .EnumerateArray()
            .Where(w => w.GetProperty("name").GetString() == "far")
            .Select(w => w.GetProperty("state").GetString())
            .FirstOrDefault();
    }

    private async Task WaitAsync(ProgramRun trainer, Func<Task<bool>> condition, string awaited)
    {
        for (var waited = Stopwatch.StartNew(); !await condition(); await Task.Delay(1000, Cancel))
            Assert.True(
                waited.Elapsed < Patience && !trainer.HasEnded,
                $"waited {waited.Elapsed.TotalSeconds:F0} s for {awaited}:\n"
                    + string.Join('\n', programs.Select(p => p.Output + p.Errors))
            );
    }

    private static int Steps(ProgramRun trainer) =>
        trainer.Output.Split('\n').Count(line => line.StartsWith("step ", StringComparison.Ordinal));
}
