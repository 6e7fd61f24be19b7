namespace SimpleR1.Inference;

/// <summary>A prompt as token ids, and how to complete it.</summary>
public sealed record GenerationRequest(string Id, int[] PromptTokens, SamplingParameters Sampling)
{
    /// <summary>Smaller runs first when the engine can't run all.</summary>
    public int Priority { get; init; }

    /// <summary>
    /// The samples to complete, of all <see cref="SamplingParameters.Samples"/>, and what each has already; null is all
    /// of them, from their first token.
    /// </summary>
    public IReadOnlyList<PartialSample>? PartialSamples { get; init; }

    /// <summary>Number of samples to complete.</summary>
    public int Count => PartialSamples?.Count ?? Sampling.Samples;

    /// <summary>The samples to complete, each with the tokens that it has already.</summary>
    public IReadOnlyList<PartialSample> SamplesToComplete() =>
        PartialSamples ?? [.. Enumerable.Range(0, Sampling.Samples).Select(i => new PartialSample(i))];
}

/// <summary>
/// A sample that was interrupted, by a lost worker or by the end of a step. It continues as if it had never stopped:
/// with the same draws, penalties and stop strings, and the engine's current weights. Only keys and values are computed
/// again.
/// </summary>
/// <param name="Index">Which of the request's samples, from 0.</param>
public sealed record PartialSample(int Index)
{
    /// <summary>Tokens generated so far; none of them ended the sample.</summary>
    public int[] Tokens { get; init; } = [];

    /// <summary>Log-probability of each token, as in <see cref="Completion.LogProbs"/>.</summary>
    public float[] LogProbs { get; init; } = [];

    /// <summary>Version of the weights that made each token.</summary>
    public int[] WeightVersions { get; init; } = [];

    /// <summary>The most probable tokens at each position, if the request asks for them.</summary>
    public TokenLogProb[][]? TopLogProbs { get; init; }
}
