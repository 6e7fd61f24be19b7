namespace SimpleR1.WeightSync.Security;

/// <summary>
/// Logs what strangers can cause: at most one line in each interval, so that they can't fill a disk. The line at an
/// interval's end says how many more there were.
/// </summary>
/// <param name="log">Takes the lines.</param>
/// <param name="interval">One second by default.</param>
public sealed class ThrottledLog(Action<string> log, TimeSpan? interval = null)
{
    private readonly TimeSpan interval = interval ?? TimeSpan.FromSeconds(1);
    private readonly Lock gate = new();
    private string latest = "";
    private long waiting; // lines since the last one that was logged
    private bool quiet;

    /// <summary>Logs the line now if none was logged for an interval; else counts it.</summary>
    public void Add(string line)
    {
        lock (gate)
        {
            latest = line;
            if (quiet)
            {
                waiting++;
                return;
            }
            quiet = true;
        }

        log(line);
        _ = LogRestAsync();
    }

    private async Task LogRestAsync()
    {
        while (true)
        {
            await Task.Delay(interval);
            string line;
            lock (gate)
            {
                quiet = waiting > 0;
                if (!quiet)
                    return;

                string others = waiting == 1 ? "" : $" (and {waiting - 1:N0} more like it since the last line)";
                line = latest + others;
                waiting = 0;
            }
            log(line);
        }
    }
}
