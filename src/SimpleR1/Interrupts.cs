using System.Runtime.InteropServices;

namespace SimpleR1;

/// <summary>
/// Ctrl-C and SIGTERM: the first one asks the command to finish and save, a second one ends the process at once.
/// </summary>
internal sealed class Interrupts : IDisposable
{
    private const int InterruptedExitCode = 130;

    private readonly CancellationTokenSource source = new();
    private readonly List<PosixSignalRegistration> registrations = [];
    private int count;

    /// <param name="message">What the first interrupt makes the command do.</param>
    /// <param name="log">Takes the message; standard error by default.</param>
    public Interrupts(string message, Action<string>? log = null)
    {
        log ??= Console.Error.WriteLine;
        foreach (var signal in new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM })
            registrations.Add(PosixSignalRegistration.Create(signal, Interrupt));

        void Interrupt(PosixSignalContext context)
        {
            context.Cancel = true;
            if (Interlocked.Increment(ref count) > 1)
                Environment.Exit(InterruptedExitCode); // the workers end with this process
            log($"{message} (again: stop at once)");
            source.Cancel();
        }
    }

    /// <summary>Cancelled by the first interrupt.</summary>
    public CancellationToken Token => source.Token;

    /// <summary>Completes after the first interrupt.</summary>
    public async Task WaitAsync() =>
        await Task.Delay(Timeout.Infinite, Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);

    public void Dispose()
    {
        foreach (var registration in registrations)
            registration.Dispose();
        source.Dispose();
    }
}
