using System.Runtime.InteropServices;

namespace SimpleR1.Cluster.Processes;

/// <summary>How this process takes the signals that ask it to end.</summary>
public static unsafe partial class SignalDefaults
{
    private const int Interrupt = 2;
    private const int Terminate = 15;
    private const nint Ignored = 1; // SIG_IGN
    private const int LargestSigaction = 256; // bytes; glibc's struct has 152 on x64, its handler first

    /// <summary>
    /// Takes SIGINT and SIGTERM again where the parent has them ignored, as a shell does for what it starts with
    /// <c>&amp;</c> in a script. .NET respects an ignored signal, so that without this nothing could interrupt such a
    /// process, nor those that it starts. SIGHUP stays ignored: <c>nohup</c> asks for that. Call it first in a program.
    /// </summary>
    public static void Restore()
    {
        if (!OperatingSystem.IsLinux())
            return;
        foreach (int number in new[] { Interrupt, Terminate })
            if (IsIgnored(number))
                signal(number, 0); // SIG_DFL
    }

    private static bool IsIgnored(int number)
    {
        byte* action = stackalloc byte[LargestSigaction];
        return sigaction(number, null, action) == 0 && *(nint*)action == Ignored;
    }

    [LibraryImport("libc")]
    private static partial int sigaction(int number, byte* action, byte* former);

    [LibraryImport("libc")]
    private static partial nint signal(int number, nint handler);
}
