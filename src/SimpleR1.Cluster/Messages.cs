using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;
using SimpleR1.Inference;

namespace SimpleR1.Cluster;

/// <summary>Settings travel as JSON (few, cold, nested), tokens and log-probs as raw bytes (many, hot: 8 times faster than int[]).</summary>
internal static class Wire
{
    public static readonly JsonSerializerOptions Json = new()
    {
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    public static byte[] Bytes<T>(ReadOnlySpan<T> values)
        where T : unmanaged => MemoryMarshal.AsBytes(values).ToArray();

    public static T[] Values<T>(byte[] bytes)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(bytes).ToArray();

    public static string ToJson<T>(T value) => JsonSerializer.Serialize(value, Json);

    public static T FromJson<T>(string json) =>
        JsonSerializer.Deserialize<T>(json, Json)
        ?? throw new JsonException($"null where a {typeof(T).Name} was expected");
}

/// <param name="Session">The pool that the worker now belongs to; what another one left is dropped.</param>
[GenerateSerializer, Immutable]
internal sealed record SetupMessage(
    [property: Id(0)] string Session,
    [property: Id(1)] string Setup,
    [property: Id(2)] byte[]? TokenizerJson
);

/// <param name="Failure">Why the engine could not be built; null when it was.</param>
/// <param name="ElementType">Of the weights that it holds, as libtorch calls it.</param>
/// <param name="Reach">The worker's addresses in groups that receive weights, by the transport's name.</param>
[GenerateSerializer, Immutable]
internal sealed record SetupReply(
    [property: Id(0)] string? Failure,
    [property: Id(1)] string Host,
    [property: Id(2)] int ProcessId,
    [property: Id(3)] string Device,
    [property: Id(4)] string ElementType,
    [property: Id(5)] Dictionary<string, string> Reach
);

/// <summary>Requests for a worker, and the weights that it must hold to take them.</summary>
/// <param name="Stream">Tokens are wanted as they are sampled, not completions alone.</param>
[GenerateSerializer, Immutable]
internal sealed record SubmitMessage(
    [property: Id(0)] string Session,
    [property: Id(1)] string Batch,
    [property: Id(2)] int WeightVersion,
    [property: Id(3)] ulong WeightHash,
    [property: Id(4)] RequestMessage[] Requests,
    [property: Id(5)] bool Stream
);

/// <param name="Draining">It takes no more work, for it was asked to leave.</param>
/// <param name="TakenOver">Another trainer has it now.</param>
/// <param name="Refused">Why it may not be sampled from; null when it took the requests.</param>
[GenerateSerializer, Immutable]
internal sealed record SubmitReply(
    [property: Id(0)] bool Draining,
    [property: Id(1)] bool TakenOver,
    [property: Id(2)] string? Refused
);

[GenerateSerializer, Immutable]
internal sealed record RequestMessage(
    [property: Id(0)] string RequestId,
    [property: Id(1)] byte[] PromptTokens,
    [property: Id(2)] string Sampling,
    [property: Id(3)] int Priority,
    [property: Id(4)] PartMessage[]? Parts
)
{
    public static RequestMessage From(GenerationRequest request) =>
        new(
            request.Id,
            Wire.Bytes<int>(request.PromptTokens),
            Wire.ToJson(request.Sampling),
            request.Priority,
            request.PartialSamples?.Select(PartMessage.From).ToArray()
        );

    public GenerationRequest ToRequest() =>
        new(RequestId, Wire.Values<int>(PromptTokens), Wire.FromJson<SamplingParameters>(Sampling))
        {
            Priority = Priority,
            PartialSamples = Parts?.Select(p => p.ToPart()).ToArray(),
        };
}

[GenerateSerializer, Immutable]
internal sealed record PartMessage(
    [property: Id(0)] int Index,
    [property: Id(1)] byte[] Tokens,
    [property: Id(2)] byte[] LogProbs,
    [property: Id(3)] byte[] WeightVersions,
    [property: Id(4)] byte[][]? TopLogProbs
)
{
    public static PartMessage From(PartialSample p) =>
        new(
            p.Index,
            Wire.Bytes<int>(p.Tokens),
            Wire.Bytes<float>(p.LogProbs),
            Wire.Bytes<int>(p.WeightVersions),
            p.TopLogProbs?.Select(t => Wire.Bytes<TokenLogProb>(t)).ToArray()
        );

    public PartialSample ToPart() =>
        new(Index)
        {
            Tokens = Wire.Values<int>(Tokens),
            LogProbs = Wire.Values<float>(LogProbs),
            WeightVersions = Wire.Values<int>(WeightVersions),
            TopLogProbs = TopLogProbs?.Select(Wire.Values<TokenLogProb>).ToArray(),
        };
}

/// <summary>A token of a request that streams, or the end of a sample.</summary>
[GenerateSerializer, Immutable]
internal sealed record EventMessage(
    [property: Id(0)] string RequestId,
    [property: Id(1)] int SampleIndex,
    [property: Id(2)] int Token,
    [property: Id(3)] float LogProb,
    [property: Id(4)] byte[]? Top,
    [property: Id(5)] int WeightVersion,
    [property: Id(6)] string Text,
    [property: Id(7)] CompletionMessage? Completion
)
{
    public static EventMessage From(TokenEvent e, string requestId) =>
        new(
            requestId,
            e.SampleIndex,
            e.Token,
            e.LogProb,
            e.Top is null ? null : Wire.Bytes<TokenLogProb>(e.Top),
            e.WeightVersion,
            e.Text,
            e.Completion is { } whole ? CompletionMessage.From(whole with { RequestId = requestId }) : null
        );

    public TokenEvent ToEvent() =>
        new()
        {
            RequestId = RequestId,
            SampleIndex = SampleIndex,
            Token = Token,
            LogProb = LogProb,
            Top = Top is null ? null : Wire.Values<TokenLogProb>(Top),
            WeightVersion = WeightVersion,
            Text = Text,
            Completion = Completion?.ToCompletion(),
        };
}

[GenerateSerializer, Immutable]
internal sealed record CompletionMessage(
    [property: Id(0)] string RequestId,
    [property: Id(1)] int SampleIndex,
    [property: Id(2)] byte[] Tokens,
    [property: Id(3)] byte[] LogProbs,
    [property: Id(4)] byte[] WeightVersions,
    [property: Id(5)] int FinishReason,
    [property: Id(6)] string Text,
    [property: Id(7)] byte[][]? TopLogProbs,
    [property: Id(8)] int CachedPromptTokens
)
{
    public static CompletionMessage From(Completion c) =>
        new(
            c.RequestId,
            c.SampleIndex,
            Wire.Bytes<int>(c.Tokens),
            Wire.Bytes<float>(c.LogProbs),
            Wire.Bytes<int>(c.WeightVersions),
            (int)c.FinishReason,
            c.Text,
            c.TopLogProbs?.Select(t => Wire.Bytes<TokenLogProb>(t)).ToArray(),
            c.CachedPromptTokens
        );

    public Completion ToCompletion() =>
        new()
        {
            RequestId = RequestId,
            SampleIndex = SampleIndex,
            Tokens = Wire.Values<int>(Tokens),
            LogProbs = Wire.Values<float>(LogProbs),
            WeightVersions = Wire.Values<int>(WeightVersions),
            FinishReason = (FinishReason)FinishReason,
            Text = Text,
            TopLogProbs = TopLogProbs?.Select(Wire.Values<TokenLogProb>).ToArray(),
            CachedPromptTokens = CachedPromptTokens,
        };
}

/// <summary>What came of a batch since the last answer (completions, and tokens where it streams), and how the worker is.</summary>
/// <param name="Rejected">The requests can't be served by any worker (too long for the context, for one); says why.</param>
/// <param name="Failed">The engine failed; the worker is of no more use.</param>
/// <param name="Progress">Grows while the engine makes steps.</param>
/// <param name="Done">All of the batch has been handed over, this answer included.</param>
/// <param name="Draining">It takes no more work.</param>
[GenerateSerializer, Immutable]
internal sealed record ProgressMessage(
    [property: Id(0)] EventMessage[] Events,
    [property: Id(1)] string? Rejected,
    [property: Id(2)] string? Failed,
    [property: Id(3)] long Progress,
    [property: Id(4)] long PeakMemory,
    [property: Id(5)] bool Done,
    [property: Id(6)] bool Draining
);

/// <summary>What becomes of sequences that are being generated when new weights come.</summary>
public enum OnUpdate
{
    /// <summary>They go on with the keys and values they have, made by the weights before.</summary>
    Keep,

    /// <summary>They go on, and their keys and values are computed again by the new weights.</summary>
    Recompute,

    /// <summary>They are finished first, by the weights they were begun with; none that waits is begun meanwhile.</summary>
    Drain,
}

/// <param name="Update">The update's name, other than that of any before.</param>
/// <param name="Version">That the worker is to hold after it.</param>
/// <param name="Overlap">Decoding goes on until the commit: the weights are received into a second buffer.</param>
/// <param name="TimeoutSeconds">A paused engine's patience for the next thing to do.</param>
[GenerateSerializer, Immutable]
internal sealed record PrepareMessage(
    [property: Id(0)] string Session,
    [property: Id(1)] string Update,
    [property: Id(2)] int Version,
    [property: Id(3)] OnUpdate OnUpdate,
    [property: Id(4)] bool Overlap,
    [property: Id(5)] double TimeoutSeconds
);

/// <param name="TakenOver">Another trainer has the worker now; nothing was done.</param>
/// <param name="Version">That it holds until the first byte of the next one arrives; -1 for none.</param>
[GenerateSerializer, Immutable]
internal sealed record PrepareReply([property: Id(0)] bool TakenOver, [property: Id(1)] int Version);

/// <param name="Version">Of the weights that arrived; -1 for none.</param>
/// <param name="Seconds">From the first byte to the hash of the last.</param>
/// <param name="HashSeconds">Of these, for the hash after the last byte; 0 where it was computed on the way.</param>
/// <param name="Transport">Of those offered, the one that was used.</param>
/// <param name="Failure">Why the weights did not arrive; null when they did.</param>
[GenerateSerializer, Immutable]
internal sealed record ReceiptMessage(
    [property: Id(0)] int Version,
    [property: Id(1)] ulong Hash,
    [property: Id(2)] double Seconds,
    [property: Id(3)] string Transport,
    [property: Id(4)] string? Failure,
    [property: Id(5)] double HashSeconds = 0
);

/// <summary>What the worker samples from now.</summary>
/// <param name="PausedSeconds">That its engine made no step for this update.</param>
[GenerateSerializer, Immutable]
internal sealed record CommitReply(
    [property: Id(0)] int Version,
    [property: Id(1)] ulong Hash,
    [property: Id(2)] double PausedSeconds
);
