namespace SimpleR1.Inference;

/// <summary>
/// One token of a running sample, as streaming sends it. <see cref="Completion"/> is set on a sample's last event; the
/// texts of all its events, put together, are the completion's text.
/// </summary>
public sealed record TokenEvent
{
    public required string RequestId { get; init; }

    /// <summary>Which of the request's samples, from 0.</summary>
    public required int SampleIndex { get; init; }

    /// <summary>The new token; -1 if an abort ended the sample without one.</summary>
    public required int Token { get; init; }
    public float LogProb { get; init; }

    /// <summary>The most probable tokens at this position, if the request asks for them.</summary>
    public TokenLogProb[]? Top { get; init; }

    /// <summary>Version of the weights that made the token.</summary>
    public required int WeightVersion { get; init; }
    public required string Text { get; init; }
    public Completion? Completion { get; init; }

    /// <summary>The final event of a sample whose tokens were not streamed.</summary>
    public static TokenEvent Of(Completion c)
    {
        bool hasToken = c.FinishReason != FinishReason.Aborted;
        return new()
        {
            RequestId = c.RequestId,
            SampleIndex = c.SampleIndex,
            Token = hasToken ? c.Tokens[^1] : -1,
            LogProb = hasToken ? c.LogProbs[^1] : 0,
            Top = hasToken ? c.TopLogProbs?[^1] : null,
            WeightVersion = hasToken ? c.WeightVersions[^1] : -1,
            Text = c.Text,
            Completion = c,
        };
    }
}
