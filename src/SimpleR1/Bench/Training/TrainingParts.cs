using SimpleR1.Models;

namespace SimpleR1.Bench.Training;

/// <summary>The parts of a training step, and which kernels of a profile compute each.</summary>
internal static class TrainingParts
{
    public const string Products = "products";
    public const string AttentionForward = "attention_forward";
    public const string AttentionBackward = "attention_backward";
    public const string Norms = "norms";
    public const string SwiGlu = "swiglu";
    public const string Head = "head";
    public const string Optimizer = "optimizer";
    public const string Other = "other";

    /// <summary>How the names of a part's kernels begin. What is in no list is <see cref="Other"/>.</summary>
    private static readonly (string Part, string[] Beginnings)[] Kernels =
    [
        (Head, ["token_log_probs", "small_linear_to_float"]),
        (AttentionBackward, ["packed_attention_", "plain_packed_attention_"]),
        (AttentionForward, ["packed_attention", "plain_packed_attention"]),
        (Norms, ["add_rms_norm", "rms_norm_gradient", "query_key_norm"]),
        (SwiGlu, ["swiglu"]),
        (Optimizer, ["adamw", "sum_of_squares", "sum_of_sums"]),
        (Products, ["product with ", "input gradient with ", "weight gradient with ", "small_linear", "small_gated"]),
    ];

    /// <summary>The parts with their calls and milliseconds, the longest first; parts without a call are left out.</summary>
    public static IReadOnlyList<(string Name, long Calls, double Milliseconds)> Group(
        IEnumerable<(string Name, long Calls, double Milliseconds)> kernels,
        ModelConfig config
    ) =>
        [
            .. kernels
                .GroupBy(k => PartOf(k.Name, config))
                .Select(part => (part.Key, part.Sum(k => k.Calls), part.Sum(k => k.Milliseconds)))
                .OrderByDescending(part => part.Item3),
        ];

    /// <param name="kernel">A kernel's name, or a product's with the shape of its weights, as a profile has it.</param>
    public static string PartOf(string kernel, ModelConfig config)
    {
        // The head's products have a row of weights for each token of the vocabulary.
        if (kernel.EndsWith($" with [{config.VocabularySize}, {config.HiddenSize}]", StringComparison.Ordinal))
            return Head;

        bool IsIn(string[] beginnings) => beginnings.Any(b => kernel.StartsWith(b, StringComparison.Ordinal));

        return Kernels.Where(k => IsIn(k.Beginnings)).Select(k => k.Part).FirstOrDefault(Other);
    }
}
