using SimpleR1.Tensors.Operands;

namespace SimpleR1.Models;

/// <summary>Llama 3's frequency scaling of rotary embeddings (<c>rope_type: llama3</c>).</summary>
public sealed record Llama3RopeScaling(
    double Factor,
    double LowFrequencyFactor,
    double HighFrequencyFactor,
    int OriginalMaxPositions
);

/// <summary>
/// A decoder-only transformer's shape, read from a Hugging Face <c>config.json</c>. Everything else is derived from it.
/// </summary>
public sealed record ModelConfig
{
    /// <summary>The family says which biases and norms the layers have.</summary>
    public required ModelFamily Family { get; init; }

    public required int VocabularySize { get; init; }
    public required int HiddenSize { get; init; }
    public required int IntermediateSize { get; init; }
    public required int Layers { get; init; }
    public required int Heads { get; init; }

    /// <summary>
    /// Key/value heads; each serves <see cref="Heads"/> / <see cref="KeyValueHeads"/> query heads (grouped-query
    /// attention).
    /// </summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>Elements of one head; not always <see cref="HiddenSize"/> / <see cref="Heads"/>.</summary>
    public required int HeadDimension { get; init; }

    /// <summary>Longest context, prompt and completion together, in tokens.</summary>
    public required int MaxPositions { get; init; }
    public required double RmsNormEpsilon { get; init; }
    public required double RopeTheta { get; init; }
    public Llama3RopeScaling? RopeScaling { get; init; }

    /// <summary>The output projection is the embedding matrix itself.</summary>
    public required bool TieEmbeddings { get; init; }

    public int? BosTokenId { get; init; }

    /// <summary>
    /// Ids that end a completion, from <c>generation_config.json</c> when present, else from <c>config.json</c>.
    /// </summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>The warning before sampling from a model without an end-of-sequence id; null for others.</summary>
    public string? EndWarning =>
        EosTokenIds.Count > 0
            ? null
            : "warning: neither config.json nor generation_config.json names an eos_token_id: every completion runs to "
                + "its limit, unless a stop text or a stop token id ends it";

    /// <inheritdoc cref="ModelFamily.QueryKeyValueBias"/>
    public bool QueryKeyValueBias => Family.QueryKeyValueBias;

    /// <inheritdoc cref="ModelFamily.QueryKeyNorm"/>
    public bool QueryKeyNorm => Family.QueryKeyNorm;

    /// <summary>Query heads that share a key/value head.</summary>
    public int GroupSize => Heads / KeyValueHeads;

    /// <summary>Elements of a token's queries: of all heads.</summary>
    public int QuerySize => Heads * HeadDimension;

    /// <summary>Elements of a token's keys, and of its values: of all key/value heads.</summary>
    public int KeyValueSize => KeyValueHeads * HeadDimension;

    public AttentionShape AttentionShape => new(Heads, KeyValueHeads, HeadDimension);

    /// <summary>Elements of a row of the fused q, k and v projection.</summary>
    public int QkvSize => QuerySize + 2 * KeyValueSize;
}
