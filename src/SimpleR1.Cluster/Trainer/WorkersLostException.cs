namespace SimpleR1.Cluster.Trainer;

/// <summary>Workers failed repeatedly, when they started or at one request.</summary>
public sealed class WorkersLostException(string message) : InvalidOperationException(message);
