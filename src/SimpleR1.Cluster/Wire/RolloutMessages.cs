using SimpleR1.Inference;

namespace SimpleR1.Cluster.Wire;

/// <summary>Requests for a worker, and the weights that the worker must hold to take them.</summary>
[GenerateSerializer, Immutable]
internal sealed record SubmitMessage
{
    [Id(0)]
    public required string Session { get; init; }

    [Id(1)]
    public required string Batch { get; init; }

    [Id(2)]
    public required int WeightVersion { get; init; }

    [Id(3)]
    public required ulong WeightHash { get; init; }

    [Id(4)]
    public required RequestMessage[] Requests { get; init; }

    /// <summary>The trainer wants every token as it is sampled, not completions alone.</summary>
    [Id(5)]
    public required bool Stream { get; init; }
}

/// <param name="Draining">The worker takes no more work, because it was asked to leave.</param>
/// <param name="TakenOver">Another trainer has the worker now.</param>
/// <param name="Refused">Why the worker must not be sampled from; null when it took the requests.</param>
[GenerateSerializer, Immutable]
internal sealed record SubmitReply(
    [property: Id(0)] bool Draining,
    [property: Id(1)] bool TakenOver,
    [property: Id(2)] string? Refused
);

/// <summary>A <see cref="GenerationRequest"/>.</summary>
[GenerateSerializer, Immutable]
internal sealed record RequestMessage(
    [property: Id(0)] string RequestId,
    [property: Id(1)] byte[] PromptTokens,
    [property: Id(2)] string Sampling,
    [property: Id(3)] int Priority,
    [property: Id(4)] PartialSampleMessage[]? PartialSamples
)
{
    public static RequestMessage From(GenerationRequest request) =>
        new(
            request.Id,
            WireFormat.ToBytes<int>(request.PromptTokens),
            WireFormat.ToJson(request.Sampling),
            request.Priority,
            request.PartialSamples?.Select(PartialSampleMessage.From).ToArray()
        );

    public GenerationRequest ToRequest() =>
        new(RequestId, WireFormat.FromBytes<int>(PromptTokens), WireFormat.FromJson<SamplingParameters>(Sampling))
        {
            Priority = Priority,
            PartialSamples = PartialSamples?.Select(p => p.ToPartialSample()).ToArray(),
        };
}

/// <summary>A <see cref="PartialSample"/>.</summary>
[GenerateSerializer, Immutable]
internal sealed record PartialSampleMessage(
    [property: Id(0)] int Index,
    [property: Id(1)] byte[] Tokens,
    [property: Id(2)] byte[] LogProbs,
    [property: Id(3)] byte[] WeightVersions,
    [property: Id(4)] byte[][]? TopLogProbs
)
{
    public static PartialSampleMessage From(PartialSample sample) =>
        new(
            sample.Index,
            WireFormat.ToBytes<int>(sample.Tokens),
            WireFormat.ToBytes<float>(sample.LogProbs),
            WireFormat.ToBytes<int>(sample.WeightVersions),
            sample.TopLogProbs?.Select(t => WireFormat.ToBytes<TokenLogProb>(t)).ToArray()
        );

    public PartialSample ToPartialSample() =>
        new(Index)
        {
            Tokens = WireFormat.FromBytes<int>(Tokens),
            LogProbs = WireFormat.FromBytes<float>(LogProbs),
            WeightVersions = WireFormat.FromBytes<int>(WeightVersions),
            TopLogProbs = TopLogProbs?.Select(WireFormat.FromBytes<TokenLogProb>).ToArray(),
        };
}

/// <summary>A <see cref="TokenEvent"/>: a token of a request that streams, or the end of a sample.</summary>
[GenerateSerializer, Immutable]
internal sealed record EventMessage
{
    [Id(0)]
    public required string RequestId { get; init; }

    [Id(1)]
    public required int SampleIndex { get; init; }

    [Id(2)]
    public required int Token { get; init; }

    [Id(3)]
    public required float LogProb { get; init; }

    [Id(4)]
    public byte[]? Top { get; init; }

    [Id(5)]
    public required int WeightVersion { get; init; }

    [Id(6)]
    public required string Text { get; init; }

    [Id(7)]
    public CompletionMessage? Completion { get; init; }

    public static EventMessage From(TokenEvent e, string requestId) =>
        new()
        {
            RequestId = requestId,
            SampleIndex = e.SampleIndex,
            Token = e.Token,
            LogProb = e.LogProb,
            Top = e.Top is null ? null : WireFormat.ToBytes<TokenLogProb>(e.Top),
            WeightVersion = e.WeightVersion,
            Text = e.Text,
            Completion = e.Completion is null
                ? null
                : CompletionMessage.From(e.Completion with { RequestId = requestId }),
        };

    public TokenEvent ToEvent() =>
        new()
        {
            RequestId = RequestId,
            SampleIndex = SampleIndex,
            Token = Token,
            LogProb = LogProb,
            Top = Top is null ? null : WireFormat.FromBytes<TokenLogProb>(Top),
            WeightVersion = WeightVersion,
            Text = Text,
            Completion = Completion?.ToCompletion(),
        };
}

/// <summary>A <see cref="Completion"/>.</summary>
[GenerateSerializer, Immutable]
internal sealed record CompletionMessage
{
    [Id(0)]
    public required string RequestId { get; init; }

    [Id(1)]
    public required int SampleIndex { get; init; }

    [Id(2)]
    public required byte[] Tokens { get; init; }

    [Id(3)]
    public required byte[] LogProbs { get; init; }

    [Id(4)]
    public required byte[] WeightVersions { get; init; }

    [Id(5)]
    public required int FinishReason { get; init; }

    [Id(6)]
    public required string Text { get; init; }

    [Id(7)]
    public byte[][]? TopLogProbs { get; init; }

    [Id(8)]
    public required int CachedPromptTokens { get; init; }

    public static CompletionMessage From(Completion completion) =>
        new()
        {
            RequestId = completion.RequestId,
            SampleIndex = completion.SampleIndex,
            Tokens = WireFormat.ToBytes<int>(completion.Tokens),
            LogProbs = WireFormat.ToBytes<float>(completion.LogProbs),
            WeightVersions = WireFormat.ToBytes<int>(completion.WeightVersions),
            FinishReason = (int)completion.FinishReason,
            Text = completion.Text,
            TopLogProbs = completion.TopLogProbs?.Select(t => WireFormat.ToBytes<TokenLogProb>(t)).ToArray(),
            CachedPromptTokens = completion.CachedPromptTokens,
        };

    public Completion ToCompletion() =>
        new()
        {
            RequestId = RequestId,
            SampleIndex = SampleIndex,
            Tokens = WireFormat.FromBytes<int>(Tokens),
            LogProbs = WireFormat.FromBytes<float>(LogProbs),
            WeightVersions = WireFormat.FromBytes<int>(WeightVersions),
            FinishReason = (FinishReason)FinishReason,
            Text = Text,
            TopLogProbs = TopLogProbs?.Select(WireFormat.FromBytes<TokenLogProb>).ToArray(),
            CachedPromptTokens = CachedPromptTokens,
        };
}

/// <summary>A batch's events since the last answer (completions, and tokens where the batch streams), and the worker's condition.</summary>
[GenerateSerializer, Immutable]
internal sealed record ProgressMessage
{
    [Id(0)]
    public required EventMessage[] Events { get; init; }

    /// <summary>
    /// Why no worker can serve the requests (a prompt is too long for the context, for example); null where they can be served.
    /// </summary>
    [Id(1)]
    public string? Rejected { get; init; }

    /// <summary>Why the engine failed, so that the worker is of no more use; null where it did not.</summary>
    [Id(2)]
    public string? Failed { get; init; }

    /// <summary>Grows while the engine makes steps.</summary>
    [Id(3)]
    public long Progress { get; init; }

    /// <summary>Most bytes of physical memory that the process ever held.</summary>
    [Id(4)]
    public long PeakMemory { get; init; }

    /// <summary>All of the batch has been handed over, with this answer.</summary>
    [Id(5)]
    public required bool Done { get; init; }

    /// <summary>The worker takes no more work.</summary>
    [Id(6)]
    public bool Draining { get; init; }
}
