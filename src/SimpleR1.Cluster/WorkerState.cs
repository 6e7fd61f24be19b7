namespace SimpleR1.Cluster;

/// <summary>
/// The life of one worker process as the trainer sees it:
/// <code>
/// Joining ──▶ Waiting ◀─▶ Receiving ──▶ Ready ◀──▶ Suspect
///                ▲            ▲          │           │
///                └────────────┴──────────┴───────────┘      Waiting, Ready, Suspect ──▶ Draining      any ──▶ Dead
/// </code>
/// Only a Ready worker gets work.
/// </summary>
public enum WorkerState
{
    /// <summary>The process starts, joins the cluster and builds its engine.</summary>
    Joining,

    /// <summary>
    /// The worker can receive weights. It holds none yet, or stale ones, or has given the trainer's memory back.
    /// </summary>
    Waiting,

    /// <summary>The engine is paused for an update.</summary>
    Receiving,

    /// <summary>The worker holds the current weights, proven by their hash.</summary>
    Ready,

    /// <summary>The worker answers late, makes no step, or has lost its connection. It keeps its work for now and gets no more.</summary>
    Suspect,

    /// <summary>The worker was asked to leave: it finishes its work, and gets neither work nor weights.</summary>
    Draining,

    /// <summary>The process is gone, or is being killed. This is final: a replacement is another worker.</summary>
    Dead,
}

internal static class WorkerStates
{
    /// <summary>Whether a worker may change from one state to another.</summary>
    public static bool MayBecome(this WorkerState from, WorkerState to) =>
        (from, to) switch
        {
            (WorkerState.Dead, _) => false,
            (_, WorkerState.Dead) => true,
            (WorkerState.Joining, WorkerState.Waiting) => true,
            (WorkerState.Waiting, WorkerState.Receiving) => true,
            (WorkerState.Receiving, WorkerState.Ready or WorkerState.Waiting) => true,
            (WorkerState.Ready, WorkerState.Receiving or WorkerState.Suspect or WorkerState.Waiting) => true,
            (WorkerState.Suspect, WorkerState.Ready or WorkerState.Receiving or WorkerState.Waiting) => true,
            (WorkerState.Waiting or WorkerState.Ready or WorkerState.Suspect, WorkerState.Draining) => true,
            _ => false,
        };
}
