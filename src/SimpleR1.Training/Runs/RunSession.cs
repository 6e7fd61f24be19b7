namespace SimpleR1.Training.Runs;

/// <summary>
/// A process's hold on a run's folder: its lock, and the run that the folder held before. With
/// <see cref="ExistingRun.Overwrite"/> that run is moved aside. It is deleted when the new run has written a step, and
/// moved back when the new run fails before.
/// </summary>
public sealed class RunSession : IDisposable
{
    private readonly IDisposable folderLock;
    private readonly Action<string> log;
    private readonly bool movedAside;
    private bool isKept;

    private RunSession(RunFolder run, IDisposable folderLock, bool movedAside, Action<string> log)
    {
        Run = run;
        this.folderLock = folderLock;
        this.movedAside = movedAside;
        this.log = log;
    }

    public RunFolder Run { get; }

    /// <summary>Locks the run's folder, and makes or opens it as asked.</summary>
    /// <param name="log">Receives a line about what happens to a run that was there before.</param>
    /// <inheritdoc cref="RunFolder.Find" path="/exception"/>
    /// <exception cref="IOException">Another process holds the lock, or the folder cannot be moved.</exception>
    public static RunSession Open(string root, string name, ExistingRun existing, Action<string> log)
    {
        var run = RunFolder.Find(root, name, existing);
        var folderLock = run.Lock();
        try
        {
            RunFolder.Open(root, name, existing);
            bool movedAside = existing == ExistingRun.Overwrite && run.HasFormer;
            if (movedAside)
                log($"the run that was there is kept at {run.Former} until this one has written its first step");
            return new(run, folderLock, movedAside, log);
        }
        catch
        {
            folderLock.Dispose();
            throw;
        }
    }

    /// <summary>Reports that a step is on disk: the run that the folder held before is deleted.</summary>
    public void StepWritten()
    {
        if (isKept)
            return;
        isKept = true;
        try
        {
            Run.DeleteFormer();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            log($"{Run.Former} can't be deleted ({e.Message}); delete it by hand");
        }
    }

    /// <summary>Keeps the run although it has no step yet, because it was interrupted and can be resumed.</summary>
    public void Keep()
    {
        if (!isKept && Run.HasFormer)
            log($"the run that was there is still at {Run.Former}, until this one has written its first step");
        isKept = true;
    }

    /// <summary>Ends the hold. A run without a step gives way to the one that it was to replace.</summary>
    public void Dispose()
    {
        try
        {
            if (movedAside && !isKept && Run.RestoreFormer())
                log($"{Run.Path} holds the run that was there before: nothing of the new one was written");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            log($"the run that was there is at {Run.Former}; it can't be moved back: {e.Message}");
        }
        folderLock.Dispose();
    }
}
