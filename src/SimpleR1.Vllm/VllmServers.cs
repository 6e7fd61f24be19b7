using System.Globalization;
using System.Net;
using SimpleR1.Tensors.Cuda;
using SimpleR1.WeightSync.Security;
using static TorchSharp.torch;

namespace SimpleR1.Vllm;

/// <summary>The servers of a trainer, and how it reaches them.</summary>
/// <param name="Addresses">
/// vllm://host:port, with a cluster key the admin port; http:// is for servers without a key, whatever the trainer has.
/// </param>
public sealed record VllmServers(IReadOnlyList<Uri> Addresses)
{
    /// <summary>The servers' bearer key; null where they want none.</summary>
    public string? ApiKey { get; init; }

    /// <summary>The key of the servers at vllm://; null where they have none.</summary>
    public ClusterKey? ClusterKey { get; init; }

    /// <summary>
    /// This machine's address for the servers; found out where it is null and they are on other machines.
    /// </summary>
    public IPAddress? Here { get; init; }

    /// <summary>
    /// The GPU of this machine that sends weights by NCCL, to servers that take that; null sends from the CPU by TCP.
    /// </summary>
    public CudaDevice? SendFrom { get; init; }

    /// <summary>
    /// Temperature of the samples to train on. vLLM returns log-probs of temperature 1, whatever it samples with, unless
    /// it runs with processed log-probs.
    /// </summary>
    public double Temperature { get; init; } = 1;

    /// <summary>Servers of vLLM itself run with <c>--logprobs-mode processed_logprobs</c>.</summary>
    public bool ProcessedLogProbs { get; init; }

    /// <summary>Why a server of vLLM itself would give wrong log-probs; null when they are right.</summary>
    internal string? ForeignRefusal =>
        Temperature == 1 || ProcessedLogProbs
            ? null
            : "its log-probs are by default those of temperature 1, and rollout.temperature is "
                + $"{Temperature.ToString(CultureInfo.InvariantCulture)}, so that every importance weight would be wrong. "
                + "Start it with --logprobs-mode processed_logprobs and set workers.processed_logprobs to true, "
                + "or set rollout.temperature to 1";

    /// <summary>The element type in which the GPU sends.</summary>
    public ScalarType SendType { get; init; } = ScalarType.BFloat16;
}
