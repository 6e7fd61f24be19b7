using SimpleR1.Models;

namespace SimpleR1.Inference;

/// <summary>What a request must satisfy before it may enter the engine; all problems are reported together.</summary>
internal sealed class RequestCheck(GenerationRequest request, ModelConfig config, EngineOptions options)
{
    private readonly List<string> problems = [];
    private readonly SamplingParameters s = request.Sampling;
    private readonly int context = options.ContextOf(config);
    private readonly int prompt = request.PromptTokens.Length;

    /// <param name="blocks">Blocks of the KV cache.</param>
    /// <exception cref="ArgumentException">
    /// The request is out of range or can never fit; all problems are named.
    /// </exception>
    public void Run(int blocks, bool hasTokenizer)
    {
        CheckPrompt(blocks);
        CheckLengths();
        CheckDistribution();
        CheckLists(hasTokenizer);
        CheckPartialSamples();
        if (problems.Count > 0)
            throw new ArgumentException($"request '{request.Id}': {string.Join("; ", problems)}");
    }

    private void CheckPrompt(int blocks)
    {
        Require(prompt > 0, "the prompt is empty; give at least one token (the beginning-of-text id, for example)");
        Require(
            prompt < context,
            $"the prompt has {prompt} tokens, the context is {context}; "
                + $"at most {context - 1} leave room for a completion"
        );

        long positions = Math.Min((long)prompt + s.MaxTokens, context) - 1; // the last token is never computed
        long needed = (positions + options.BlockSize - 1) / options.BlockSize;
        Require(
            prompt >= context || needed <= blocks,
            $"prompt and completion take up to {positions} positions, the KV cache has {blocks} blocks of "
                + $"{options.BlockSize}; give the KV cache more memory or lower MaxTokens"
        );
        RequireTokens(request.PromptTokens, "prompt");
    }

    private void CheckLengths()
    {
        Require(s.Samples >= 1, $"Samples: expected at least 1, found {s.Samples}");
        Require(s.MaxTokens >= 1, $"MaxTokens: expected at least 1, found {s.MaxTokens}");
        Require(
            s.MinTokens >= 0 && s.MinTokens <= s.MaxTokens,
            $"MinTokens: expected 0 .. MaxTokens ({s.MaxTokens}), found {s.MinTokens}"
        );
        Require(
            s.TopLogProbs >= 0 && s.TopLogProbs <= config.VocabularySize,
            $"TopLogProbs: expected 0 .. {config.VocabularySize}, found {s.TopLogProbs}"
        );
    }

    private void CheckDistribution()
    {
        bool scales = float.IsFinite((float)(1 / Math.Max(s.Temperature, 1e-30)));
        Require(
            s.Temperature >= 0 && scales && double.IsFinite(s.Temperature),
            $"Temperature: expected 0 (greedy) or more, found {s.Temperature}"
        );
        Require(s.TopK >= 0, $"TopK: expected 0 (all) or more, found {s.TopK}");
        Require(s.TopP is > 0 and <= 1, $"TopP: expected above 0, up to 1, found {s.TopP}");
        Require(s.MinP is >= 0 and <= 1, $"MinP: expected 0 .. 1, found {s.MinP}");
        Require(
            s.RepetitionPenalty > 0 && double.IsFinite(s.RepetitionPenalty),
            $"RepetitionPenalty: expected above 0, found {s.RepetitionPenalty}"
        );
        RequireFinite(s.PresencePenalty, "PresencePenalty");
        RequireFinite(s.FrequencyPenalty, "FrequencyPenalty");
    }

    private void CheckLists(bool hasTokenizer)
    {
        Require(s.StopStrings.Count == 0 || hasTokenizer, "StopStrings need an engine with a tokenizer");
        Require(s.StopStrings.All(stop => stop.Length > 0), "StopStrings: one is empty");
        Require(s.BadWords.All(word => word.Length > 0), "BadWords: one is empty");
        Require(
            s.LogitBias.Values.All(bias => !float.IsNaN(bias) && !float.IsPositiveInfinity(bias)),
            "LogitBias: expected numbers or -infinity"
        );
        RequireTokens(s.StopTokenIds, "StopTokenIds");
        RequireTokens(s.BadWords.SelectMany(word => word), "BadWords");
        RequireTokens(s.LogitBias.Keys, "LogitBias");
    }

    private void CheckPartialSamples()
    {
        if (request.PartialSamples is not { } samples)
            return;

        Require(samples.Count > 0, "PartialSamples: no sample is named; leave it out to complete all");
        Require(
            samples.DistinctBy(sample => sample.Index).Count() == samples.Count,
            "PartialSamples: a sample is named twice"
        );
        foreach (var sample in samples)
            CheckPartialSample(sample);
    }

    private void CheckPartialSample(PartialSample sample)
    {
        string name = $"PartialSamples: sample {sample.Index}";
        Require(sample.Index >= 0 && sample.Index < s.Samples, $"{name} is none of the {s.Samples} samples");

        int length = sample.Tokens.Length;
        Require(
            length < s.MaxTokens && prompt + length < context,
            $"{name} has {length} tokens already; there is room for {Math.Min(s.MaxTokens, context - prompt)}, "
                + "and at least one must be left"
        );
        RequireTokens(sample.Tokens, "PartialSamples");

        int tops = sample.TopLogProbs?.Length ?? 0;
        bool topsFit = s.TopLogProbs == 0 || tops == length;
        Require(
            sample.LogProbs.Length == length && sample.WeightVersions.Length == length && topsFit,
            $"{name} has {length} tokens, {sample.LogProbs.Length} log-probs, "
                + $"{sample.WeightVersions.Length} weight versions"
                + (s.TopLogProbs > 0 ? $" and {tops} lists of alternatives" : "")
                + "; expected as many of each"
        );
    }

    private void Require(bool holds, string problem)
    {
        if (!holds)
            problems.Add(problem);
    }

    private void RequireFinite(double value, string name) =>
        Require(double.IsFinite(value), $"{name}: expected a number, found {value}");

    private void RequireTokens(IEnumerable<int> ids, string name)
    {
        foreach (int id in ids.Where(id => (uint)id >= (uint)config.VocabularySize).Take(1))
            problems.Add($"{name}: token id {id} is outside the vocabulary of {config.VocabularySize}");
    }
}
