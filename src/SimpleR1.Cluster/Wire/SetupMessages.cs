namespace SimpleR1.Cluster.Wire;

/// <summary>What a worker builds its engine from.</summary>
/// <param name="Session">The pool that the worker belongs to from now on. The worker drops what another pool left.</param>
/// <param name="Setup">JSON of a <see cref="WorkerSetup"/> without its tokenizer.</param>
/// <param name="Part">
/// The part of the trainer's pool for the KV cache, where the worker maps the trainer's memory; null for its own memory.
/// </param>
[GenerateSerializer, Immutable]
internal sealed record SetupMessage(
    [property: Id(0)] string Session,
    [property: Id(1)] string Setup,
    [property: Id(2)] byte[]? TokenizerJson,
    [property: Id(3)] MemoryPart? Part = null
);

/// <summary>The worker's answer to a <see cref="SetupMessage"/>.</summary>
[GenerateSerializer, Immutable]
internal sealed record SetupReply
{
    /// <summary>Why the engine could not be built; null when it was.</summary>
    [Id(0)]
    public string? Failure { get; init; }

    [Id(1)]
    public required string Host { get; init; }

    [Id(2)]
    public required int ProcessId { get; init; }

    [Id(3)]
    public required string Device { get; init; }

    /// <summary>Element type of the worker's weights, by libtorch's name.</summary>
    [Id(4)]
    public required string ElementType { get; init; }

    /// <summary>The worker's addresses in groups that receive weights, by the transport's name.</summary>
    [Id(5)]
    public required Dictionary<string, string> Reach { get; init; }

    /// <summary>Most sequences of one step of the worker's engine.</summary>
    [Id(6)]
    public required int MaxSequences { get; init; }
}
