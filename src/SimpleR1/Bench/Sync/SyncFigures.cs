using SimpleR1.Cluster;

namespace SimpleR1.Bench.Sync;

/// <summary>The times of weight updates: medians over some updates.</summary>
/// <param name="bytes">Bytes of one worker's weights.</param>
internal sealed class SyncFigures(IReadOnlyList<SyncReport> reports, long bytes)
{
    private readonly int workers = reports[0].Workers.Count;

    private double Total => Median(r => r.TotalSeconds);
    private double Prepare => Median(r => r.PrepareSeconds);
    private double Transfer => Median(r => r.TransferSeconds);
    private double Verify => Median(r => r.VerifySeconds);
    private double Commit => Median(r => r.CommitSeconds);
    private double Paused => Median(r => r.PausedSeconds);
    private double Hash => Median(r => r.HashSeconds);
    private double Receive => Median(r => r.ReceiveSeconds - r.HashSeconds);
    private double Sent => Median(r => r.SentBytes);
    private double PayloadRate => bytes * workers / Transfer; // bytes a second, to all workers

    /// <summary>Adds the figures to those of the other ways, and prints them.</summary>
    /// <param name="figures">Has the times of the other ways.</param>
    public void Write(SyncBenchmarkOptions options, SortedDictionary<string, double> figures, Action<string> log)
    {
        Add(figures);
        Print(options, figures, log);
    }

    private void Add(SortedDictionary<string, double> figures)
    {
        double bare = figures[SyncComparison.Bare];
        figures["update_seconds"] = Total;
        figures["prepare_seconds"] = Prepare;
        figures["transfer_seconds"] = Transfer;
        figures["verify_seconds"] = Verify;
        figures["commit_seconds"] = Commit;
        figures["paused_seconds"] = Paused;
        figures["receive_seconds"] = Receive;
        figures["worker_hash_seconds"] = Hash;

        figures["payload_bytes"] = bytes;
        figures["sent_bytes"] = Sent;
        figures["workers"] = workers;

        figures["payload_bytes_per_second"] = PayloadRate;
        figures["ratio_to_bare"] = Total / bare;
        figures["receive_ratio_to_bare"] = Receive / bare;
    }

    private void Print(SyncBenchmarkOptions options, SortedDictionary<string, double> figures, Action<string> log)
    {
        void Row(string name, double seconds, string about = "") =>
            log($"    {name, -18} {1e3 * seconds, 9:F2} ms{about}");

        // The whole update, then its phases.
        string overlap = options.Cluster.Overlap ? ", overlapping" : "";
        string delta = options.Cluster.Delta ? $", deltas of {options.Changed:P1} changed" : "";
        log($"  update by {reports[0].Transport}{overlap}{delta}: {1e3 * Total:F2} ms");
        Row("prepare", Prepare);
        string hash = Hash > 0 ? $", {1e3 * Hash:F2} for their hash" : "";
        Row("transfer", Transfer, $"   {1e3 * Receive:F2} for the bytes{hash}");
        Row("verify", Verify);
        Row("commit and resume", Commit);
        Row("engines paused", Paused);

        // How fast that is.
        string sent = Sent > 0 ? $"{Sent / 1e6:F1} MB sent; " : "";
        log(
            $"  {sent}{PayloadRate / 1e9:F2} GB/s of payload to all workers; "
                + $"{figures["receive_ratio_to_bare"]:F2} × the bare broadcast for the bytes, "
                + $"{figures["ratio_to_bare"]:F2} × for all"
        );
        foreach (string name in (string[])[SyncComparison.PerParameter, SyncComparison.Original])
        {
            string way = name.Replace("_seconds", "").Replace('_', ' ');
            log($"  {way}: {figures[name] / Total:F2} × the update");
        }
    }

    private double Median(Func<SyncReport, double> figure) =>
        reports.Select(figure).Order().ElementAt(reports.Count / 2);
}
