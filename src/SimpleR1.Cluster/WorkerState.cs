namespace SimpleR1.Cluster;

/// <summary>
/// The life of one worker process as the trainer sees it:
/// <code>
/// Joining ──▶ Waiting ◀─▶ Receiving ──▶ Ready ◀──▶ Suspect
///                             ▲          │           │
///                             └──────────┴───────────┘      Waiting, Ready, Suspect ──▶ Draining      any ──▶ Dead
/// </code>
/// Only a Ready worker is given work.
/// </summary>
public enum WorkerState
{
    /// <summary>Its process starts, joins the cluster and builds its engine.</summary>
    Joining,

    /// <summary>Can receive weights, but holds none, or only stale ones: nothing that it has proven to be the current ones.</summary>
    Waiting,

    /// <summary>Its engine is paused for an update.</summary>
    Receiving,

    /// <summary>Holds the current weights, proven by their hash.</summary>
    Ready,

    /// <summary>Answers late, makes no step, or has lost its way to the cluster; keeps its work for now, gets no more.</summary>
    Suspect,

    /// <summary>Was asked to leave: finishes what it has, gets no more, and no more weights.</summary>
    Draining,

    /// <summary>Its process is gone, or is being killed. For good: a replacement is another worker.</summary>
    Dead,
}

internal static class WorkerStates
{
    public static bool MayBecome(this WorkerState from, WorkerState to) =>
        (from, to) switch
        {
            (WorkerState.Dead, _) => false,
            (_, WorkerState.Dead) => true,
            (WorkerState.Joining, WorkerState.Waiting) => true,
            (WorkerState.Waiting, WorkerState.Receiving) => true,
            (WorkerState.Receiving, WorkerState.Ready or WorkerState.Waiting) => true,
            (WorkerState.Ready, WorkerState.Receiving or WorkerState.Suspect) => true,
            (WorkerState.Suspect, WorkerState.Ready or WorkerState.Receiving) => true,
            (WorkerState.Waiting or WorkerState.Ready or WorkerState.Suspect, WorkerState.Draining) => true,
            _ => false,
        };
}
