using System.Globalization;
using SimpleR1.Bench.Sync;
using SimpleR1.Benchmarks;
using SimpleR1.Tensors;

CultureInfo.CurrentCulture = CultureInfo.InvariantCulture;
NativeMemoryTuning.Apply();

// "cluster NAME", and the processes that it starts.
if (await ClusterBenchmark.RunAsync(args) is { } code)
    return code;

// Started by "sync abuse".
if (args is ["faulty-worker", var fault, .. var worker])
    return await FaultyWorker.RunAsync(fault, worker);
if (args is ["sync", "abuse", .. var abuse])
    return await SyncAbuse.RunAsync(Console.Out, abuse);
if (args is ["sync", "soak", .. var soak])
    return await SyncSoak.RunAsync(Console.Out, soak);

CpuParallel.Threads = 2;

// Started by "http-abuse".
if (args is ["http-server"])
    return await HttpAbuseServer.RunAsync();

// The benchmarks that run one after another without arguments.
var benchmarks = new Dictionary<string, Func<Task>>
{
    ["engine"] = () => Run(PeerBenchmarks.Engine),
    ["training"] = () => Run(PeerBenchmarks.Training),
    ["sync"] = () => new SyncBenchmark(Sync(), Console.WriteLine).RunAsync(),
    ["http-abuse"] = () => HttpAbuseServer.AbuseAsync(Console.Out),
};
foreach (string name in args.Length == 0 ? [.. benchmarks.Keys] : args)
{
    if (!benchmarks.TryGetValue(name, out var run))
    {
        string names = string.Join(", ", benchmarks.Keys);
        Console.Error.WriteLine(
            $"unknown benchmark '{name}'; there are {names}, sync abuse, sync soak, and cluster NAME"
        );
        return 2;
    }
    await run();
}
return 0;

static Task Run(Action benchmark)
{
    benchmark();
    return Task.CompletedTask;
}

static SyncBenchmarkOptions Sync() =>
    new()
    {
        Model = "smollm2-135m",
        Cluster = new() { Workers = 1 },
    };
