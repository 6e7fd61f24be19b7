namespace SimpleR1.Inference;

/// <summary>Why a sample ended.</summary>
public enum FinishReason
{
    /// <summary>An ending id or a stop string.</summary>
    Stop,

    /// <summary>The most tokens asked for, or the longest context.</summary>
    Length,

    /// <summary>The caller.</summary>
    Aborted,
}

/// <summary>A token and its log-probability under the distribution that the position was sampled from.</summary>
public readonly record struct TokenLogProb(int Token, float LogProb);

/// <summary>One finished sample of a request.</summary>
public sealed record Completion
{
    public required string RequestId { get; init; }

    /// <summary>Which of the request's samples, from 0.</summary>
    public required int SampleIndex { get; init; }

    /// <summary>Generated ids, the ending id included.</summary>
    public required int[] Tokens { get; init; }

    /// <summary>
    /// log p of each token under the distribution it was sampled from (after penalties, temperature and filters).
    /// </summary>
    public required float[] LogProbs { get; init; }

    /// <summary>Version of the weights that made each token.</summary>
    public required int[] WeightVersions { get; init; }
    public required FinishReason FinishReason { get; init; }

    /// <summary>Decoded text without special tokens, cut before a stop string unless it was to be included.</summary>
    public required string Text { get; init; }

    /// <summary>The most probable tokens at each position, if the request asks for them.</summary>
    public TokenLogProb[][]? TopLogProbs { get; init; }

    /// <summary>Prompt tokens whose keys and values came from the prefix cache.</summary>
    public int CachedPromptTokens { get; init; }
}
