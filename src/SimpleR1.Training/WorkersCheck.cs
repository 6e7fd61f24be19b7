using SimpleR1.Cluster.Head;
using SimpleR1.Cluster.Worker;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training;

/// <summary>Checks what a recipe says about workers, before any is started.</summary>
internal static class WorkersCheck
{
    /// <param name="config">The model; null where it could not be read.</param>
    /// <param name="devices">Where the run computes; null where that is not known.</param>
    /// <param name="context">Longest prompt and completion together, in tokens.</param>
    /// <param name="startsWorkers">False where the workers are those of a head, or servers.</param>
    public static void Check(
        CheckedRecipe<TrainRecipe> checking,
        ModelConfig? config,
        RunDevices? devices,
        int context,
        bool startsWorkers
    )
    {
        var workers = checking.Recipe.Workers;
        if (startsWorkers)
            checking.Try("workers.port", () => ClusterHead.RequireFreePort(workers.Port));
        if (workers.SendDevice.Length > 0)
            checking.Try("workers.send_device", () => WorkerDevices.ExpandGpus(workers.SendDevice));
        if (workers.Servers.Count > 0 || config is null || checking.IsMisread("workers"))
            return;

        var engine = workers.ToEngineOptions(context);
        bool areKnown = startsWorkers && devices is not null;
        bool[] kinds = areKnown ? [.. devices!.Workers.Select(d => d != "cpu").Distinct()] : [false, true];
        foreach (bool gpu in kinds)
        {
            string key = workers.BlockSize % 16 == 0 ? "workers.max_batched_tokens" : "workers.block_size";
            checking.Try(key, () => engine.For(gpu).Check(config));
        }
    }

    /// <summary>The longest sequence must fit the KV cache, or the first long sample would end the run.</summary>
    /// <param name="tokens">Of the longest prompt and the longest completion together.</param>
    public static void CheckRoom(
        CheckedRecipe<TrainRecipe> checking,
        ModelConfig config,
        RunDevices devices,
        int tokens
    )
    {
        var workers = checking.Recipe.Workers;
        if (workers.Servers.Count > 0 || workers.KvCacheMib is not { } mib || mib == 0 || checking.IsMisread("workers"))
            return;
        bool onlyCpu = devices.Workers.Count > 0 && devices.Workers.All(d => d == "cpu");
        int elementBytes = (onlyCpu ? ElementType.F32 : devices.WorkerType).Bytes;
        long positions = (long)(tokens + workers.BlockSize - 1) / workers.BlockSize * workers.BlockSize;
        long needed = positions * KvBytesPerToken(config, elementBytes);
        if (needed > (long)mib << 20)
            checking.Add(
                "workers.kv_cache_mib",
                $"{mib} MiB can't hold one sequence of {tokens} tokens, which takes {(needed >> 20) + 1} MiB; raise it, "
                    + "or lower rollout.max_new_tokens"
            );
    }

    /// <summary>Bytes of a token's keys and values, of all layers.</summary>
    public static long KvBytesPerToken(ModelConfig config, int elementBytes) =>
        2L * config.Layers * config.KeyValueSize * elementBytes;
}
