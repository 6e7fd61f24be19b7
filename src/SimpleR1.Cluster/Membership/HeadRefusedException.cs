namespace SimpleR1.Cluster.Membership;

/// <summary>The head will not have this process: their keys differ, the name is taken, the versions differ.</summary>
internal sealed class HeadRefusedException(string message, Exception? inner = null) : IOException(message, inner)
{
    /// <summary>
    /// False where the head only closed the connection: most likely for want of its key, but a head that is just going
    /// down does the same.
    /// </summary>
    public bool IsCertain { get; init; } = true;
}
