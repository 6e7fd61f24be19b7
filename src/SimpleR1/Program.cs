using SimpleR1.Cluster;

// Only what the cluster's tests need; the command line takes its place.
if (args is ["worker", .. var options]) return await WorkerProcess.RunAsync(WorkerOptions.Parse(options), CancellationToken.None);
if (args is ["bench", "sync"]) SimpleR1.Sync.SyncBenchmark.Run(Console.Out);
if (args is ["cluster-selftest", .. var rest]) await ClusterSelfTest.RunAsync(Console.Out, new() { Workers = 2 }, rest is ["--keep-busy"], CancellationToken.None);
return 0;
