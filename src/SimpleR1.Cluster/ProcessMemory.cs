using System.Globalization;

namespace SimpleR1.Cluster;

/// <summary>How much physical memory processes have used.</summary>
public static class ProcessMemory
{
    private const string PeakField = "VmHWM:",
        Unit = " kB";

    /// <summary>Most bytes that a process of this machine ever held (Linux's VmHWM, shared pages included); 0 when it has ended.</summary>
    public static long Peak(int processId)
    {
        try
        {
            foreach (string line in File.ReadLines($"/proc/{processId}/status"))
                if (line.StartsWith(PeakField, StringComparison.Ordinal))
                    return 1024
                        * long.Parse(line.AsSpan()[PeakField.Length..^Unit.Length], CultureInfo.InvariantCulture);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // the process has ended

        return 0;
    }
}
