namespace SimpleR1.Models;

/// <summary>
/// What an architecture family adds to the common decoder. A new family is a new line here, in addition to what it
/// needs of <see cref="Decoder"/>; nothing else names a family.
/// </summary>
/// <param name="Name">The family's name in recipes, and <c>model_type</c> in a <c>config.json</c>.</param>
/// <param name="Architecture">The entry of <c>architectures</c> in a <c>config.json</c>.</param>
public sealed record ModelFamily(string Name, string Architecture)
{
    /// <summary>The q, k and v projections have a bias.</summary>
    public bool QueryKeyValueBias { get; init; }

    /// <summary>Each q and k head is RMS-normalised before the rotary embedding.</summary>
    public bool QueryKeyNorm { get; init; }

    /// <summary>Head dimension where a config names none; null is hidden size / heads.</summary>
    public int? DefaultHeadDimension { get; init; }

    public static readonly ModelFamily Llama = new("llama", "LlamaForCausalLM");
    public static readonly ModelFamily Qwen2 = new("qwen2", "Qwen2ForCausalLM") { QueryKeyValueBias = true };
    public static readonly ModelFamily Qwen3 = new("qwen3", "Qwen3ForCausalLM")
    {
        QueryKeyNorm = true,
        DefaultHeadDimension = 128,
    };

    /// <summary>Every family whose forward pass the decoder computes.</summary>
    public static readonly IReadOnlyList<ModelFamily> All = [Llama, Qwen2, Qwen3];

    /// <exception cref="NotSupportedException">No family has this architecture.</exception>
    public static ModelFamily OfArchitecture(string architecture) =>
        All.FirstOrDefault(f => f.Architecture == architecture)
        ?? throw new NotSupportedException(
            $"architecture '{architecture}' is not supported "
                + $"(supported: {string.Join(", ", All.Select(f => f.Architecture))})"
        );

    /// <exception cref="KeyNotFoundException">No family has this name.</exception>
    public static ModelFamily Named(string name) =>
        All.FirstOrDefault(f => f.Name == name)
        ?? throw new KeyNotFoundException($"no model family is named '{name}'; there are {string.Join(", ", All)}");

    public override string ToString() => Name;
}
