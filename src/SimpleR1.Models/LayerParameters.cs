using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// A linear layer, x·Weightᵀ + Bias. Every product of a decoder layer is computed from one of these, so low-rank
/// adapters and the scales of 8-bit weights would be further members here.
/// </summary>
/// <param name="Weight">[outputs, inputs]</param>
/// <param name="Bias">[outputs], or null.</param>
public readonly record struct Projection(Tensor Weight, Tensor? Bias = null);

/// <summary>
/// The parameters of one decoder layer: views into <see cref="FlatWeights"/>, made once, so that a step looks up no
/// names.
/// </summary>
public sealed record LayerParameters
{
    /// <summary>Which layer, from 0.</summary>
    public required int Index { get; init; }

    /// <summary>[hidden]</summary>
    public required Tensor AttentionNorm { get; init; }

    /// <summary>q, k and v in one: [(heads + 2 kvHeads) · d, hidden], with a bias in some families.</summary>
    public required Projection Qkv { get; init; }

    /// <summary>[d], of families that normalise each q and k head; null in others.</summary>
    public Tensor? QueryNorm { get; init; }

    /// <inheritdoc cref="QueryNorm"/>
    public Tensor? KeyNorm { get; init; }

    /// <summary>Attention's result back into the residual stream: [hidden, heads · d].</summary>
    public required Projection Output { get; init; }

    /// <summary>[hidden]</summary>
    public required Tensor MlpNorm { get; init; }

    /// <summary>gate and up in one: [2 · intermediate, hidden].</summary>
    public required Projection GateUp { get; init; }

    /// <summary>[hidden, intermediate]</summary>
    public required Projection Down { get; init; }
}
