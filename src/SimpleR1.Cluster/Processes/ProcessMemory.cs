using System.Globalization;

namespace SimpleR1.Cluster.Processes;

/// <summary>How much physical memory processes have used.</summary>
public static class ProcessMemory
{
    /// <summary>The most bytes a process of this machine ever held (Linux's VmHWM, shared pages included); 0 when it has ended.</summary>
    public static long Peak(int processId)
    {
        try
        {
            foreach (string line in File.ReadLines($"/proc/{processId}/status"))
                if (line.StartsWith("VmHWM:", StringComparison.Ordinal))
                    return 1024 * long.Parse(line.AsSpan(6, line.Length - 6 - 3), CultureInfo.InvariantCulture);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // it has ended
        return 0;
    }
}
