using System.ComponentModel;
using SimpleR1.Cluster;
using SimpleR1.Inference;
using SimpleR1.Tensors;
using SimpleR1.WeightSync;

namespace SimpleR1.Training.Recipes.Sections;

/// <summary>Where workers on the trainer's GPU have their memory.</summary>
public enum WorkerPlacement
{
    /// <summary><see cref="Colocated"/> where a worker's device is the trainer's GPU.</summary>
    Auto,

    /// <summary>They share the trainer's weights and one pool of memory, in turns with training.</summary>
    Colocated,

    /// <summary>They have weights and a KV cache of their own.</summary>
    Separate,
}

/// <summary>The <c>workers</c> section.</summary>
[BareList(nameof(Servers))]
public sealed record WorkersSection : IRecipeSection
{
    private const int CpuKvCacheMib = 512;
    private const int CpuSequences = 256; // a step's samples, where a server's default has an eye on latency

    [Description("Worker processes. Without it one for each of their devices.")]
    [Limits(AtLeast = 1)]
    public int? Count { get; init; }

    [Description(
        "What they compute on: cpu, cuda, cuda:N, several with commas, or all for one GPU after another. auto takes the GPUs "
            + "that the trainer leaves, its own where it is the only one, and the CPU where the trainer is on it."
    )]
    public string Device { get; init; } = "auto";

    [Description(
        "Memory of workers on the trainer's GPU: colocated shares the trainer's weights and one pool with them, which is "
            + "their KV cache while they generate and the trainer's activations while it trains; separate gives them "
            + "their own. auto is colocated where a worker's device is the trainer's."
    )]
    public WorkerPlacement Placement { get; init; } = WorkerPlacement.Auto;

    [Description(
        "Element type of weights and KV cache of workers on a GPU, and of what send_device sends to servers: bf16, f16 or f32. "
            + "Without it that of a trainer on a GPU, else bf16."
    )]
    public string? Type { get; init; }

    [Description(
        "The trainer's GPU that NCCL sends from: cuda or cuda:N, not a GPU of the workers. Several, with commas, send a "
            + "slice each. Empty sends by shared memory or TCP. Servers on GPUs are sent to from one GPU; vLLM's own "
            + "servers need it."
    )]
    public string SendDevice { get; init; } = "";

    [Description("CPU threads of each; 0 shares the machine's cores among them.")]
    [Limits(AtLeast = 0)]
    public int Threads { get; init; }

    [Description(
        "KV cache of each worker, in MiB. Without it 512 on a CPU, and what weights and activations leave on a GPU, as does 0."
    )]
    [Limits(AtLeast = 0)]
    public int? KvCacheMib { get; init; }

    [Description(
        "Tokens that an engine computes in one step, prompts in chunks included. Without it 2048 on a CPU, 16384 on a GPU."
    )]
    [Limits(AtLeast = 1)]
    public int? MaxBatchedTokens { get; init; }

    [Description("Sequences that run at once in an engine. Without it 256 on a CPU, 1024 on a GPU.")]
    [Limits(AtLeast = 1)]
    public int? MaxSequences { get; init; }

    [Description("Tokens in one block of the KV cache.")]
    [Limits(AtLeast = 1)]
    public int BlockSize { get; init; } = 16;

    [Description("How weights travel; auto takes NCCL between GPUs, shared memory on one machine, else TCP.")]
    public WeightTransportChoice Transport { get; init; } = WeightTransportChoice.Auto;

    [Description(
        "What happens to sequences in flight when new weights come: keep keeps their keys and values, recompute "
            + "computes them again, drain finishes the sequences first."
    )]
    public OnUpdate OnUpdate { get; init; } = OnUpdate.Keep;

    [Description("Workers receive into a second buffer while they decode.")]
    public bool Overlap { get; init; }

    [Description("Over TCP, send only the elements that have changed, when that is less.")]
    public bool Delta { get; init; }

    [Description("Port of the head on this machine; 0 takes a free one.")]
    [Limits(AtLeast = 0, AtMost = 65535)]
    public int Port { get; init; }

    [Description(
        "Servers that speak vLLM's API and weight transfer, as vllm://HOST:PORT, instead of worker processes. Their API "
            + "key is in SIMPLE_R1_API_KEY. When the trainer has a cluster key (--key), each server must have it too and "
            + "PORT is its admin port; http://HOST:PORT or https://HOST:PORT is a server without one. See docs/vllm.md."
    )]
    public ValueList<string> Servers { get; init; } = [];

    [Description(
        "Servers of vLLM itself run with --logprobs-mode processed_logprobs: the log-probs that they return are those of the "
            + "temperature. Without it such servers need rollout.temperature 1. The servers of this program always do so."
    )]
    public bool ProcessedLogprobs { get; init; }

    /// <summary>The engines of the workers, on whatever devices these compute.</summary>
    /// <param name="context">Longest prompt and completion together, in tokens.</param>
    internal EngineOptions ToEngineOptions(int context)
    {
        var onGpu = WithSizes(EngineOptions.ForGpu, defaultKvCacheMib: 0, context);
        var onCpu = new EngineOptions { MaxSequences = CpuSequences };
        return WithSizes(onCpu, CpuKvCacheMib, context) with { OnGpu = onGpu };
    }

    private EngineOptions WithSizes(EngineOptions defaults, int defaultKvCacheMib, int context) =>
        defaults with
        {
            BlockSize = BlockSize,
            KvCacheBytes = (long)(KvCacheMib ?? defaultKvCacheMib) << 20,
            MaxBatchedTokens = MaxBatchedTokens ?? defaults.MaxBatchedTokens,
            MaxSequences = MaxSequences ?? defaults.MaxSequences,
            MaxContext = context,
        };

    public IEnumerable<Conflict> Validate()
    {
        if (Placement == WorkerPlacement.Colocated && Overlap)
            yield return new(
                "workers that share the trainer's weights can't receive into a second buffer; "
                    + "leave out overlap, or choose placement: separate",
                "placement",
                "overlap"
            );
        if (Placement == WorkerPlacement.Colocated && Servers.Count > 0)
            yield return new(
                "servers can't share the trainer's memory; leave out placement, or use worker processes",
                "placement",
                "servers"
            );
        if (Type is not null && ElementType.Find(Type) is null)
            yield return new($"expected {ElementType.Names}, found '{Type}'", "type");
        if (Servers.Count > 0 && !IsOneSender(SendDevice))
            yield return new(
                $"expected cuda or cuda:N, found '{SendDevice}': servers are sent to from one GPU; "
                    + "leave it out to send from the CPU's memory",
                "send_device"
            );
        for (int i = 0; i < Servers.Count; i++)
        {
            if (!IsServer(Servers[i]))
                yield return new($"expected vllm://HOST:PORT, found '{Servers[i]}'", $"servers.{i}");
        }
    }

    /// <summary>Nothing, or one GPU.</summary>
    private static bool IsOneSender(string device) =>
        device is "" or "cuda"
        || device.StartsWith("cuda:", StringComparison.Ordinal)
            && int.TryParse(device.AsSpan(5), out int gpu)
            && gpu >= 0;

    private static bool IsServer(string text) =>
        Uri.TryCreate(text, UriKind.Absolute, out var address)
        && address.Scheme is ("vllm" or "http" or "https")
        && address.Port > 0;
}
