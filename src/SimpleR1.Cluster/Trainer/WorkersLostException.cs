namespace SimpleR1.Cluster.Trainer;

/// <summary>Workers failed again and again, when they started or at one request; the message says why.</summary>
public sealed class WorkersLostException(string message) : InvalidOperationException(message);
