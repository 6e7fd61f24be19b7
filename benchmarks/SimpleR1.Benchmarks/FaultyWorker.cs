using SimpleR1.Cluster.Worker;

namespace SimpleR1.Benchmarks;

/// <summary>A worker process that does one thing wrong.</summary>
internal static class FaultyWorker
{
    /// <param name="fault">"claim" answers a commit with another version; "damage" changes a byte after it has arrived, once.</param>
    public static Task<int> RunAsync(string fault, string[] arguments) =>
        WorkerProcess.RunAsync(
            WorkerOptions.Parse(arguments),
            runtime =>
            {
                if (fault == "claim")
                    runtime.Weights.Claim = reply => reply with { Version = reply.Version + 1 };
                else
                    runtime.Weights.Damage = received =>
                    {
                        nint place = received.Pointer + (nint)(received.ByteLength / 3);
                        if (received.Device is { } gpu)
                            gpu.Write<byte>(place, [(byte)(gpu.Read<byte>(place, 1)[0] ^ 1)]);
                        else
                            unsafe
                            {
                                *(byte*)place ^= 1;
                            }
                        runtime.Weights.Damage = null;
                    };
            },
            CancellationToken.None
        );
}
