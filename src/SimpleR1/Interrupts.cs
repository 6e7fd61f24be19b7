using System.Runtime.InteropServices;

namespace SimpleR1;

/// <summary>The first Ctrl-C (or SIGTERM) asks to finish and save; a second one ends the process at once.</summary>
internal sealed class Interrupts : IDisposable
{
    private readonly CancellationTokenSource source = new();
    private readonly List<PosixSignalRegistration> registrations = [];
    private int count;

    /// <param name="message">What happens now.</param>
    /// <param name="say">Tells it; on standard error by default.</param>
    public Interrupts(string message, Action<string>? say = null)
    {
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM })
            registrations.Add(
                PosixSignalRegistration.Create(
                    signal,
                    context =>
                    {
                        context.Cancel = true;
                        if (Interlocked.Increment(ref count) > 1)
                            Environment.Exit(130); // the workers end with this process
                        (say ?? Console.Error.WriteLine)($"{message} (again: stop at once)");
                        source.Cancel();
                    }
                )
            );
    }

    public CancellationToken Token => source.Token;

    public void Dispose()
    {
        foreach (var registration in registrations)
            registration.Dispose();
        source.Dispose();
    }
}
