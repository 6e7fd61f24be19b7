namespace SimpleR1.Cluster.Processes;

/// <summary>How a process has ended.</summary>
/// <param name="WasUp">The worker had come up before, so that its end does not count as a failure to start.</param>
internal readonly record struct ProcessEnd(string Reason, bool WasUp);

/// <summary>
/// The owner of worker processes, which learns about the life of each: a trainer's pool, or a machine whose workers a trainer
/// elsewhere uses.
/// </summary>
internal interface IProcessOwner
{
    /// <summary>A process is about to start, and will join under this name. It takes the place of an earlier one.</summary>
    void OnStarting(string name, string instance);

    /// <summary>A process runs.</summary>
    void OnStarted(string instance, int processId);

    /// <summary>A process has ended, or could not be started.</summary>
    /// <param name="ending">How it ended, in words.</param>
    /// <param name="lifetime">Time since its start.</param>
    Task<ProcessEnd> OnEndedAsync(string instance, string ending, TimeSpan lifetime);

    /// <summary>A process ended in order, because it was asked to leave. None of this name is started again.</summary>
    void OnLeft(string name);

    /// <summary>A process ended by itself.</summary>
    /// <param name="failures">How often in a row a process of this name has failed to start.</param>
    void OnFailed(string name, string reason, int failures);

    /// <summary>The head refuses processes of this name. None is started again, and the others are asked to leave.</summary>
    void OnRefused(string name, string reason);

    /// <summary>Processes of this name failed to start too often in a row. None is started again.</summary>
    void OnGivenUp(string name, string reason, int failures);
}
