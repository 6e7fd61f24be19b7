namespace SimpleR1.Models;

/// <summary>The architecture families whose forward pass the decoder computes.</summary>
public enum ModelFamily
{
    Llama,
    Qwen2,
    Qwen3,
}

/// <summary>Llama 3's frequency scaling of rotary embeddings (<c>rope_type: llama3</c>).</summary>
public sealed record Llama3RopeScaling(
    double Factor,
    double LowFrequencyFactor,
    double HighFrequencyFactor,
    int OriginalMaxPositions
);

/// <summary>A decoder-only transformer's shape, read from a Hugging Face <c>config.json</c>. Everything else is derived from it.</summary>
public sealed record ModelConfig
{
    public required ModelFamily Family { get; init; }
    public required int VocabularySize { get; init; }
    public required int HiddenSize { get; init; }
    public required int IntermediateSize { get; init; }
    public required int Layers { get; init; }
    public required int Heads { get; init; }

    /// <summary>Key/value heads; each serves <see cref="Heads"/> / <see cref="KeyValueHeads"/> query heads (grouped-query attention).</summary>
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

    /// <summary>q, k and v projections have a bias (Qwen2).</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Each q and k head is RMS-normalised before the rotary embedding (Qwen3).</summary>
    public bool QueryKeyNorm { get; init; }
    public int? BosTokenId { get; init; }

    /// <summary>Ids that end a completion, from <c>generation_config.json</c> when present, else from <c>config.json</c>.</summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    public int GroupSize => Heads / KeyValueHeads;
    public int QuerySize => Heads * HeadDimension;
    public int KeyValueSize => KeyValueHeads * HeadDimension;
}
