namespace SimpleR1.Cluster.Trainer;

/// <summary>Another trainer has the workers now, so this one can't continue.</summary>
public sealed class TakenOverException(string message) : InvalidOperationException(message);
