using static TorchSharp.torch;

namespace SimpleR1.Cluster.Trainer.Weights;

/// <summary>The weights that the engine of a worker computes with, as the worker reports them.</summary>
/// <param name="Hash">Of the weights in <paramref name="Type"/>.</param>
internal sealed record HeldWeights(string Name, ScalarType Type, int Version, ulong Hash);
