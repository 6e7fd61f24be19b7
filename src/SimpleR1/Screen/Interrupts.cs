using System.Runtime.InteropServices;

namespace SimpleR1.Screen;

/// <summary>
/// Ctrl-C, SIGTERM and SIGHUP: the first one asks the command to finish and save, a second one ends the process at
/// once.
/// </summary>
internal sealed class Interrupts : IDisposable
{
    private const int SignalExitCode = 128; // plus the signal's number, as shells have it
    private static readonly Dictionary<PosixSignal, int> Numbers = new()
    {
        [PosixSignal.SIGHUP] = 1,
        [PosixSignal.SIGINT] = 2,
        [PosixSignal.SIGTERM] = 15,
    };

    /// <summary>The number of the process's first signal; SIGINT's before there was one.</summary>
    private static int firstNumber = Numbers[PosixSignal.SIGINT];

    private readonly CancellationTokenSource source = new();
    private readonly List<PosixSignalRegistration> registrations = [];
    private int count;

    /// <param name="message">What the first interrupt makes the command do.</param>
    /// <param name="log">Takes the message; standard error by default.</param>
    public Interrupts(string message, Action<string>? log = null)
    {
        log ??= Console.Error.WriteLine;
        foreach (var signal in Numbers.Keys)
            registrations.Add(PosixSignalRegistration.Create(signal, Interrupt));

        void Interrupt(PosixSignalContext context)
        {
            context.Cancel = true;
            if (context.Signal == PosixSignal.SIGHUP)
                LostTerminal.Silence(); // the message could not be written
            if (Interlocked.Increment(ref count) > 1)
                Environment.Exit(ExitCode); // the workers end with this process

            firstNumber = Numbers[context.Signal];
            log($"{message} (again: stop at once)");
            source.Cancel();
        }
    }

    /// <summary>
    /// The exit code of a command that a signal has stopped before its end: 130 for Ctrl-C, 143 for SIGTERM, 129 for
    /// SIGHUP.
    /// </summary>
    public static int ExitCode => SignalExitCode + firstNumber;

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
