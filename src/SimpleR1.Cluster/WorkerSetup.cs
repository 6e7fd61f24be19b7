using SimpleR1.Inference;
using SimpleR1.Models;

namespace SimpleR1.Cluster;

/// <summary>What a worker builds its engine from; the trainer sends it when the worker has joined.</summary>
/// <param name="TokenizerJson">Contents of <c>tokenizer.json</c>; null where completions need no text and no stop strings.</param>
public sealed record WorkerSetup(ModelConfig Config, byte[]? TokenizerJson, EngineOptions Engine);
