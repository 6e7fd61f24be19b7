using System.Collections.Concurrent;
using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Metrics;

/// <summary>
/// The server's metrics for Prometheus. Label values are the server's own routes and statuses: a client cannot make new
/// series.
/// </summary>
internal sealed class HttpMetrics(
    ICompletionSource source,
    Admission admission,
    ConnectionLimit connections,
    BodyBudget bodies
)
{
    private readonly ConcurrentDictionary<(string Route, int Status), long> requests = [];
    private readonly ConcurrentDictionary<string, Histogram> seconds = [];

    private readonly Lock rateLock = new();
    private (long Timestamp, long Tokens) lastReading = (Stopwatch.GetTimestamp(), 0);
    private double rate; // tokens a second

    /// <summary>Seconds from a request's arrival to its first token.</summary>
    public Histogram FirstToken { get; } = new();

    /// <summary>Counts an answered request.</summary>
    /// <param name="status">The answer's status; 499 if the client went away.</param>
    /// <param name="duration">Seconds from the request's arrival to the end of its answer.</param>
    public void Count(string route, int status, double duration)
    {
        requests.AddOrUpdate((route, status), 1, (_, count) => count + 1);
        seconds.GetOrAdd(route, _ => new()).Observe(duration);
    }

    /// <summary>All metrics as Prometheus reads them.</summary>
    public string Text()
    {
        var text = new PrometheusText();
        var statistics = source.Statistics;
        WriteSequences(text, statistics);
        WriteTokens(text, statistics);
        WriteSteps(text, statistics);
        WriteConnections(text);
        WriteRequests(text);
        return text.ToString();
    }

    private void WriteSequences(PrometheusText text, EngineStatistics s)
    {
        text.Gauge("running_sequences", "Sequences that the engine runs.", s.Running);
        text.Gauge("waiting_sequences", "Sequences that wait for the engine.", s.Waiting);
        text.Gauge("admitted_sequences", "Sequences whose requests are in flight.", admission.Inside);
        text.Counter("finished_sequences_total", "Sequences finished or aborted.", s.FinishedSequences);
        text.Counter("preemptions_total", "Sequences that lost their blocks and were computed again.", s.Preemptions);
        text.Counter("recomputed_tokens_total", "Tokens computed again after a preemption.", s.RecomputedTokens);
        text.Gauge("kv_blocks", "Blocks of the KV cache.", s.Blocks);
        text.Gauge("kv_blocks_in_use", "Blocks that sequences hold.", s.BlocksInUse);
        text.Gauge("kv_blocks_cached", "Blocks that can be found by their tokens.", s.CachedBlocks);
    }

    private void WriteTokens(PrometheusText text, EngineStatistics s)
    {
        text.Counter("prefix_queried_tokens_total", "Tokens of admitted sequences.", s.PrefixQueriedTokens);
        text.Counter("prefix_hit_tokens_total", "Tokens among them found in the prefix cache.", s.PrefixHitTokens);
        text.Counter("computed_tokens_total", "Tokens whose keys and values were computed.", s.ComputedTokens);
        text.Counter("generated_tokens_total", "Tokens sampled.", s.SampledTokens);
        text.Gauge(
            "generated_tokens_per_second",
            "Tokens sampled a second, since the previous reading.",
            Rate(s.SampledTokens)
        );
    }

    private static void WriteSteps(PrometheusText text, EngineStatistics s)
    {
        text.Counter("steps_total", "Forward passes.", s.Steps);
        text.Counter("step_seconds_total", "Time spent in forward passes.", s.StepSeconds);
        text.Counter("gpu_seconds_total", "Time in which the GPU computed them (0 on a CPU).", s.GpuSeconds);
        text.Gauge("weight_version", "Version of the weights.", s.WeightVersion);
    }

    private void WriteConnections(PrometheusText text)
    {
        text.Gauge("connections", "Open connections.", connections.Open);
        text.Counter("connections_refused_total", "Connections refused for their number.", connections.Refused);
        text.Gauge("body_bytes", "Bytes of request bodies in memory.", bodies.Used);
    }

    private void WriteRequests(PrometheusText text)
    {
        text.Counters(
            "requests_total",
            "Requests by route and status; 499 if the client went away.",
            requests.OrderBy(r => r.Key).Select(r => ($"route=\"{r.Key.Route}\",status=\"{r.Key.Status}\"", r.Value))
        );
        text.Histograms(
            "request_seconds",
            "From a request's arrival to the end of its answer.",
            seconds.OrderBy(s => s.Key, StringComparer.Ordinal).Select(s => ($"route=\"{s.Key}\"", s.Value))
        );
        text.Histograms("first_token_seconds", "From a request's arrival to its first token.", [("", FirstToken)]);
    }

    /// <summary>
    /// Tokens a second since the previous reading; a reading within a second repeats the previous rate.
    /// </summary>
    private double Rate(long tokens)
    {
        lock (rateLock)
        {
            double passed = Stopwatch.GetElapsedTime(lastReading.Timestamp).TotalSeconds;
            if (passed < 1)
                return rate;
            rate = (tokens - lastReading.Tokens) / passed;
            lastReading = (Stopwatch.GetTimestamp(), tokens);
            return rate;
        }
    }
}
