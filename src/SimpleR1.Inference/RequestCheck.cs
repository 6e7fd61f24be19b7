using SimpleR1.Models;

namespace SimpleR1.Inference;

/// <summary>What a request must satisfy before it may enter the engine; everything wrong is reported together.</summary>
internal static class RequestCheck
{
    /// <exception cref="ArgumentException">The request is out of range or can never fit; says all reasons.</exception>
    public static void Check(
        GenerationRequest request,
        ModelConfig config,
        EngineOptions options,
        int blocks,
        bool hasTokenizer
    )
    {
        var s = request.Sampling;
        var problems = new List<string>();
        void Require(bool holds, string problem)
        {
            if (!holds)
                problems.Add(problem);
        }
        void Tokens(IEnumerable<int> ids, string what)
        {
            foreach (int id in ids.Where(id => (uint)id >= (uint)config.VocabularySize).Take(1))
                problems.Add($"{what}: token id {id} is outside the vocabulary of {config.VocabularySize}");
        }
        int context = options.ContextOf(config),
            prompt = request.PromptTokens.Length;
        Require(prompt > 0, "the prompt is empty; give at least one token (the beginning-of-text id, for one)");
        Require(
            prompt < context,
            $"the prompt has {prompt} tokens, the context is {context}; at most {context - 1} leave room for a completion"
        );
        long positions = Math.Min((long)prompt + s.MaxTokens, context) - 1; // the last token is never computed
        Require(
            prompt >= context || (positions + options.BlockSize - 1) / options.BlockSize <= blocks,
            $"prompt and completion take up to {positions} positions, the KV cache has {blocks} blocks of {options.BlockSize}; give the KV cache more memory or lower MaxTokens"
        );
        Tokens(request.PromptTokens, "prompt");
        Require(s.Samples >= 1, $"Samples: expected at least 1, found {s.Samples}");
        Require(s.MaxTokens >= 1, $"MaxTokens: expected at least 1, found {s.MaxTokens}");
        Require(
            s.MinTokens >= 0 && s.MinTokens <= s.MaxTokens,
            $"MinTokens: expected 0 .. MaxTokens ({s.MaxTokens}), found {s.MinTokens}"
        );
        Require(
            s.Temperature >= 0
                && float.IsFinite((float)(1 / Math.Max(s.Temperature, 1e-30)))
                && double.IsFinite(s.Temperature),
            $"Temperature: expected 0 (greedy) or more, found {s.Temperature}"
        );
        Require(s.TopK >= 0, $"TopK: expected 0 (all) or more, found {s.TopK}");
        Require(s.TopP is > 0 and <= 1, $"TopP: expected above 0, up to 1, found {s.TopP}");
        Require(s.MinP is >= 0 and <= 1, $"MinP: expected 0 .. 1, found {s.MinP}");
        Require(
            s.RepetitionPenalty > 0 && double.IsFinite(s.RepetitionPenalty),
            $"RepetitionPenalty: expected above 0, found {s.RepetitionPenalty}"
        );
        Require(double.IsFinite(s.PresencePenalty), $"PresencePenalty: expected a number, found {s.PresencePenalty}");
        Require(
            double.IsFinite(s.FrequencyPenalty),
            $"FrequencyPenalty: expected a number, found {s.FrequencyPenalty}"
        );
        Require(
            s.TopLogProbs >= 0 && s.TopLogProbs <= config.VocabularySize,
            $"TopLogProbs: expected 0 .. {config.VocabularySize}, found {s.TopLogProbs}"
        );
        Require(s.StopStrings.Count == 0 || hasTokenizer, "StopStrings need an engine with a tokenizer");
        Require(s.StopStrings.All(stop => stop.Length > 0), "StopStrings: one is empty");
        Require(s.BadWords.All(word => word.Length > 0), "BadWords: one is empty");
        Require(
            s.LogitBias.Values.All(bias => !float.IsNaN(bias) && !float.IsPositiveInfinity(bias)),
            "LogitBias: expected numbers or -infinity"
        );
        foreach (var part in request.Parts ?? [])
        {
            int length = part.Tokens.Length;
            Require(
                part.Index >= 0 && part.Index < s.Samples,
                $"Parts: sample {part.Index} is none of the {s.Samples} samples"
            );
            Require(
                length < s.MaxTokens && prompt + length < context,
                $"Parts: sample {part.Index} has {length} tokens already; there is room for {Math.Min(s.MaxTokens, context - prompt)}, and at least one must be left"
            );
            Require(
                part.LogProbs.Length == length
                    && part.WeightVersions.Length == length
                    && (s.TopLogProbs == 0 || (part.TopLogProbs?.Length ?? 0) == length),
                $"Parts: sample {part.Index} has {length} tokens, {part.LogProbs.Length} log-probs, {part.WeightVersions.Length} weight versions{(s.TopLogProbs > 0 ? $" and {part.TopLogProbs?.Length ?? 0} lists of alternatives" : "")}; expected as many of each"
            );
            Tokens(part.Tokens, "Parts");
        }
        Require(request.Parts is null or { Count: > 0 }, "Parts: no sample is named; leave it out to complete all");
        Require(
            request.Parts is not { } parts || parts.DistinctBy(part => part.Index).Count() == parts.Count,
            "Parts: a sample is named twice"
        );
        Tokens(s.StopTokenIds, "StopTokenIds");
        Tokens(s.BadWords.SelectMany(word => word), "BadWords");
        Tokens(s.LogitBias.Keys, "LogitBias");
        if (problems.Count > 0)
            throw new ArgumentException($"request '{request.Id}': {string.Join("; ", problems)}");
    }
}
