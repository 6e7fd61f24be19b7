using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Worker;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.Nccl;
using SimpleR1.WeightSync.SharedMemory;
using static TorchSharp.torch;

namespace SimpleR1.Bench;

/// <summary>What to measure.</summary>
public sealed record SyncBenchmarkOptions
{
    /// <summary>One of <see cref="NamedShapes"/>.</summary>
    public required string Model { get; init; }

    /// <summary>Workers, devices, transport and what else a run would set.</summary>
    public required ClusterOptions Cluster { get; init; }
    public int Rounds { get; init; } = 5;

    /// <summary>Fraction of the elements that differ from update to update.</summary>
    public double Changed { get; init; } = 1;

    /// <summary>The trainer's weights are on its GPU in the workers' type, and not in the CPU's memory in f32.</summary>
    public bool SourceOnGpu { get; init; }
}

/// <summary>
/// <c>simple-r1 bench sync</c>: weight updates of real worker processes, phase by phase, against a bare broadcast of the same bytes in the same run, and
/// against two ways of sending parameter by parameter: the original project's, and the same in bf16 without its call for each.
/// </summary>
public sealed class SyncBenchmark(SyncBenchmarkOptions options, Action<string> say)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly WeightLayout layout = new(NamedShapes.Get(options.Model));
    private readonly SortedDictionary<string, double> figures = new(StringComparer.Ordinal);

    public async Task<BenchmarkResult> RunAsync()
    {
        var (cluster, workers) = (options.Cluster, options.Cluster.Workers);
        _ = WorkerDevices.Expand(cluster.Device); // one that is not there is said before anything is measured
        if (cluster.SendDevice is { } sends)
            _ = WorkerDevices.ExpandGpus(sends);
        using var weights = Source();
        bool gpu = cluster.Device != "cpu";
        var type = gpu ? WorkerDevices.ParseType(cluster.Type) : ScalarType.Float32;
        long bytes = layout.Length * type.ElementSize();
        say(
            $"Weight sync of {options.Model}: {layout.ParameterCount / 1e6:F1} M parameters, {layout.Slots.Count} of them tensors; {workers} worker{(workers == 1 ? "" : "s")} on {cluster.Device} hold {bytes / 1e6:F0} MB each; the trainer's are on {weights.Device?.Name ?? "the CPU"} in {weights.Flat.dtype}; {Environment.ProcessorCount} cores; median of {options.Rounds}"
        );
        double bare = Bare(weights, bytes);
        Hash(type, bytes);
        using (
            var groups = Parties.Form(
                cluster,
                layout.Length * sizeof(float),
                layout.CheckpointTensors.Max(t => t.Length) * sizeof(float)
            )
        )
        {
            Parameters("per parameter, bf16", groups, calls: false, 2);
            Parameters(
                "per parameter, f32, with a call for each (the original's way)",
                groups,
                calls: true,
                sizeof(float)
            );
        }
        await UpdatesAsync(weights, bytes, bare);
        return new("sync", options.Model, cluster.Device, gpu ? cluster.Type : "f32", figures);
    }

    // ---- ours

    private async Task UpdatesAsync(FlatWeights weights, long bytes, double bare)
    {
        await using var cluster = await TrainerCluster.StartAsync(
            options.Cluster,
            new(
                layout.Config,
                null,
                new()
                {
                    KvCacheBytes = 64 << 20,
                    MaxContext = 256,
                    MaxSequences = 16,
                }
            )
        );
        var reports = new List<SyncReport>();
        for (int version = 0; version < options.Rounds + 2; version++)
        {
            Change(weights, version);
            var report = await cluster.Workers.PushWeightsAsync(weights, version);
            if (version >= 2)
                reports.Add(report); // before it, processes start and memory is touched for the first time
        }
        double Median(Func<SyncReport, double> of) => reports.Select(of).Order().ElementAt(reports.Count / 2);
        var (prepare, transfer, verify, commit) = (
            Median(r => r.PrepareSeconds),
            Median(r => r.TransferSeconds),
            Median(r => r.VerifySeconds),
            Median(r => r.CommitSeconds)
        );
        var (paused, total) = (Median(r => r.PausedSeconds), Median(r => r.TotalSeconds));
        var (hash, received) = (Median(r => r.HashSeconds), Median(r => r.ReceiveSeconds - r.HashSeconds));
        string transport = reports[0].Transport;
        double sent = Median(r => r.SentBytes);
        say(
            $"  update by {transport}{(options.Cluster.Overlap ? ", overlapping" : "")}{(options.Cluster.Delta ? $", deltas of {options.Changed:P1} changed" : "")}: {1e3 * total:F2} ms = prepare {1e3 * prepare:F2} + transfer {1e3 * transfer:F2} (of it {1e3 * received:F2} for the bytes{(hash > 0 ? $", {1e3 * hash:F2} for their hash" : "")}) + verify {1e3 * verify:F2} + commit and resume {1e3 * commit:F2}; "
                + $"engines stood for {1e3 * paused:F2} ms; {(sent > 0 ? $"{sent / 1e6:F1} MB sent; " : "")}{bytes * reports[0].Workers.Count / transfer / 1e9:F2} GB/s of payload to all workers; {received / bare:F2} × the bare broadcast for the bytes, {total / bare:F2} × for all"
        );
        (
            figures["update_seconds"],
            figures["prepare_seconds"],
            figures["transfer_seconds"],
            figures["verify_seconds"],
            figures["commit_seconds"]
        ) = (total, prepare, transfer, verify, commit);
        (figures["paused_seconds"], figures["payload_bytes_per_second"], figures["ratio_to_bare"]) = (
            paused,
            bytes * reports[0].Workers.Count / transfer,
            total / bare
        );
        (figures["receive_seconds"], figures["worker_hash_seconds"], figures["receive_ratio_to_bare"]) = (
            received,
            hash,
            received / bare
        );
        (figures["payload_bytes"], figures["sent_bytes"], figures["workers"]) = (bytes, sent, reports[0].Workers.Count);
        foreach (string way in (string[])["per_parameter_bf16", "per_parameter_original"])
            say($"  {way.Replace('_', ' ')}: {figures[way + "_seconds"] / total:F2} × the update");
    }

    /// <exception cref="ArgumentException">Weights on a GPU, and no GPU to send from, or only some of them to be changed.</exception>
    private FlatWeights Source()
    {
        if (options.SourceOnGpu)
        {
            if (options.Cluster.SendDevice is not { } device || options.Changed < 1)
                throw new ArgumentException("--source gpu: give --send-device too, and no --changed");
            return new(
                layout,
                WorkerDevices.ParseType(options.Cluster.Type),
                CudaDevice.Parse(WorkerDevices.ExpandGpus(device)[0])!
            );
        }
        var weights = SharedWeightMemory.Allocate(layout);
        weights.Flat.uniform_(-1, 1);
        return weights;
    }

    private unsafe void Change(FlatWeights weights, int version)
    {
        if (weights.Device is { } gpu)
        {
            gpu.Kernels.Get("RandomFill", "random_fill", CudaOps.Element(weights.Flat.dtype))
                .Launch((4 * gpu.Multiprocessors, 1), 256, 0, weights.Pointer, layout.Length, 0f, 1f, version);
            gpu.Synchronize();
        }
        else if (options.Changed >= 1)
            weights.Flat.mul_(1.001f);
        else
        {
            float* memory = (float*)weights.Pointer;
            long step = (long)(1 / options.Changed);
            for (long i = version % step; i < layout.Length; i += step)
                memory[i] *= 1.5f;
        }
    }

    // ---- what it is compared with

    /// <summary>One broadcast of as many bytes, unchecked: of the collectives that these workers have, or, where memory is shared, one memcpy each at the same time.</summary>
    private unsafe double Bare(FlatWeights weights, long bytes)
    {
        bool shared =
            options.Cluster.Device == "cpu"
            && options.Cluster.Transport is WeightTransportChoice.Auto or WeightTransportChoice.SharedMemory;
        double seconds;
        if (shared)
        {
            var copies = Enumerable
                .Range(0, options.Cluster.Workers)
                .Select(_ => (nint)NativeMemory.AlignedAlloc((nuint)bytes, 64))
                .ToArray();
            seconds = Measure(
                "bare copy to each worker's buffer",
                bytes,
                () =>
                    Parallel.For(
                        0,
                        copies.Length,
                        i => Buffer.MemoryCopy((void*)weights.Pointer, (void*)copies[i], bytes, bytes)
                    )
            );
            foreach (nint copy in copies)
                NativeMemory.AlignedFree((void*)copy);
        }
        else
        {
            using var groups = Parties.Form(options.Cluster, bytes, staging: 0);
            seconds = Measure(
                $"bare broadcast by {groups.Name}",
                bytes,
                () => groups.Each((party, _) => party.Broadcast(0, bytes))
            );
        }
        figures["bare_seconds"] = seconds;
        return seconds;
    }

    /// <summary>What a worker proves its weights by, of as many bytes on its device; part of each update's transfer, or of a joiner's.</summary>
    private void Hash(ScalarType type, long bytes)
    {
        using var held = CudaDevice.Parse(WorkerDevices.Expand(options.Cluster.Device)[0]) is { } gpu
            ? new FlatWeights(layout, type, gpu.Beside())
            : new FlatWeights(layout, type, CPU);
        figures["hash_seconds"] = Measure("hash of a worker's weights", bytes, () => WeightHash.Of(held));
    }

    /// <param name="calls">Each parameter is announced by a call that is answered, then broadcast, then copied to where it belongs.</param>
    private void Parameters(string name, Parties parties, bool calls, int size)
    {
        var tensors = layout.CheckpointTensors;
        double seconds = Measure(
            name,
            tensors.Sum(t => t.Length) * size,
            () =>
            {
                using var line = calls ? new CallLine(parties.Count) : null;
                parties.Each(
                    (party, rank) =>
                    {
                        foreach (var tensor in tensors)
                        {
                            line?.Call(rank, tensor.Name);
                            party.Broadcast(tensor.Offset * size, tensor.Length * size);
                            if (calls && rank > 0)
                                party.CopyOut(tensor.Offset * size, tensor.Length * size);
                        }
                    }
                );
            }
        );
        figures[calls ? "per_parameter_original_seconds" : "per_parameter_bf16_seconds"] = seconds;
    }

    private double Measure(string name, long bytes, Action action)
    {
        action(); // touches and connects
        var times = new double[options.Rounds];
        for (int i = 0; i < times.Length; i++)
        {
            long start = Stopwatch.GetTimestamp();
            action();
            times[i] = Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
        Array.Sort(times);
        double median = times[times.Length / 2];
        say($"  {name}: {1e3 * median:F2} ms, {bytes * options.Cluster.Workers / median / 1e9:F2} GB/s");
        return median;
    }

    /// <summary>A member of a group on a thread of this process, with a buffer of its own.</summary>
    private sealed unsafe class Party(IWeightGroup group, nint memory, nint staging, CudaDevice? gpu)
    {
        public IWeightGroup Group => group;

        public void Broadcast(long offset, long bytes) => group.Broadcast(memory + (nint)offset, bytes);

        public void CopyOut(long offset, long bytes)
        {
            if (gpu is null)
                Buffer.MemoryCopy((void*)(memory + (nint)offset), (void*)staging, bytes, bytes);
            else
                gpu.CopyWithin(memory + (nint)offset, staging, bytes);
        }
    }

    /// <summary>A trainer and workers as threads of this process: for what needs no worker processes.</summary>
    private sealed unsafe class Parties : IDisposable
    {
        private readonly List<Party> parties = [];
        private readonly List<IDisposable> memories = [];
        private readonly List<nint> buffers = [];

        private Parties(string name) => Name = name;

        public string Name { get; }
        public int Count => parties.Count;

        /// <param name="staging">Bytes that a worker copies received tensors to.</param>
        public static Parties Form(ClusterOptions cluster, long bytes, long staging)
        {
            int size = cluster.Workers + 1;
            bool nccl = cluster.Device != "cpu" && cluster.SendDevice is not null && NcclSupport.Missing is null;
            using var tcp = new TcpCollectives();
            var devices = nccl ? WorkerDevices.Expand(cluster.Device) : [];
            CudaDevice?[] gpus =
            [
                .. Enumerable
                    .Range(0, size)
                    .Select(rank =>
                        nccl
                            ? CudaDevice
                                .Parse(
                                    rank == 0
                                        ? WorkerDevices.ExpandGpus(cluster.SendDevice!)[0]
                                        : devices[(rank - 1) % devices.Count]
                                )!
                                .Beside()
                            : null
                    ),
            ];
            if (nccl && gpus.DistinctBy(g => NcclSupport.Identify(g!)).Count() < size)
                throw new ArgumentException(
                    $"NCCL takes each GPU once: give {size} different ones, the trainer's (--send-device {cluster.SendDevice}) and {cluster.Workers} for the workers (--device {cluster.Device})"
                );
            byte[] id = nccl ? new NcclCollectives(gpus[0]!).NewId() : tcp.NewId();
            var formed = new Parties(nccl ? "nccl" : "tcp");
            var groups = new IWeightGroup[size];
            OnThreads(
                size,
                rank =>
                    groups[rank] = (nccl ? new NcclCollectives(gpus[rank]!) : (ICollectives)tcp).Join(
                        id,
                        rank,
                        size,
                        Patience
                    )
            );
            for (int rank = 0; rank < size; rank++)
                formed.parties.Add(
                    new(
                        groups[rank],
                        formed.Allocate(gpus[rank], bytes),
                        rank > 0 && staging > 0 ? formed.Allocate(gpus[rank], staging) : 0,
                        gpus[rank]
                    )
                );
            return formed;
        }

        private nint Allocate(CudaDevice? gpu, long bytes)
        {
            if (gpu is not null)
            {
                var memory = gpu.AllocateZeros(bytes, "a benchmark's buffer");
                memories.Add(memory);
                return memory.Pointer;
            }
            buffers.Add((nint)NativeMemory.AllocZeroed((nuint)bytes));
            return buffers[^1];
        }

        public void Each(Action<Party, int> action) => OnThreads(parties.Count, rank => action(parties[rank], rank));

        private static void OnThreads(int count, Action<int> action)
        {
            Exception? failure = null;
            var threads = Enumerable
                .Range(0, count)
                .Select(rank => new Thread(() =>
                {
                    try
                    {
                        action(rank);
                    }
                    catch (Exception e)
                    {
                        failure = e;
                    }
                }))
                .ToArray();
            foreach (var thread in threads)
                thread.Start();
            foreach (var thread in threads)
                thread.Join();
            if (failure is not null)
                throw new IOException("a comparison failed: " + failure.Message, failure);
        }

        public void Dispose()
        {
            foreach (var party in parties)
                party.Group.Dispose();
            foreach (var memory in memories)
                memory.Dispose();
            foreach (nint buffer in buffers)
                NativeMemory.Free((void*)buffer);
        }
    }

    /// <summary>A line over loopback TCP from rank 0 to each worker, for calls of a few bytes and their answers; Ray's, which it stands in for, are slower.</summary>
    private sealed class CallLine : IDisposable
    {
        private readonly List<(Socket Caller, Socket Called)> lines = [];

        public CallLine(int parties)
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            for (int i = 1; i < parties; i++)
            {
                var caller = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
                {
                    NoDelay = true,
                };
                caller.Connect(listener.LocalEndpoint);
                var called = listener.AcceptSocket();
                called.NoDelay = true;
                lines.Add((caller, called));
            }
        }

        /// <summary>Rank 0 tells each worker a name and waits for its answer; the others answer.</summary>
        public void Call(int rank, string name)
        {
            byte[] message = new byte[128];
            System.Text.Encoding.UTF8.GetBytes(name.AsSpan(0, Math.Min(120, name.Length)), message);
            if (rank > 0)
            {
                Read(lines[rank - 1].Called, message);
                lines[rank - 1].Called.Send(message);
                return;
            }
            foreach (var (caller, _) in lines)
                caller.Send(message);
            foreach (var (caller, _) in lines)
                Read(caller, message);
        }

        private static void Read(Socket socket, byte[] message)
        {
            for (int read = 0; read < message.Length; )
                read += socket.Receive(message.AsSpan(read)) is var count and > 0
                    ? count
                    : throw new IOException("a call was cut off");
        }

        public void Dispose()
        {
            foreach (var (caller, called) in lines)
            {
                caller.Dispose();
                called.Dispose();
            }
        }
    }
}
