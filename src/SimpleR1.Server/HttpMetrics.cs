using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server;

/// <summary>Counts how many values were at most each of some bounds.</summary>
internal sealed class Histogram
{
    public static readonly double[] Bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
    private readonly long[] counts = new long[Bounds.Length + 1];
    private double sum;

    public void Observe(double value)
    {
        int bucket = Array.FindIndex(Bounds, bound => value <= bound);
        lock (counts)
        {
            counts[bucket < 0 ? Bounds.Length : bucket]++;
            sum += value;
        }
    }

    /// <summary>Counts by bucket, the last for what is above all bounds, and the sum of all values.</summary>
    public (long[] Counts, double Sum) Read()
    {
        lock (counts)
            return ([.. counts], sum);
    }
}

/// <summary>What the server has done, for Prometheus (text format 0.0.4). Label values are routes and statuses of ours: a client can't make new series.</summary>
internal sealed class HttpMetrics(
    ICompletionSource source,
    Admission admission,
    ConnectionLimit connections,
    BodyBudget bodies
)
{
    private readonly ConcurrentDictionary<(string Route, int Status), long> requests = [];
    private readonly ConcurrentDictionary<string, Histogram> seconds = [];
    private readonly Lock rating = new();
    private (long At, long Tokens) before = (Stopwatch.GetTimestamp(), 0);
    private double rate;

    /// <summary>From a request's arrival to its first token.</summary>
    public Histogram FirstToken { get; } = new();

    /// <param name="status">499 where the client went away.</param>
    public void Count(string route, int status, double duration)
    {
        requests.AddOrUpdate((route, status), 1, (_, count) => count + 1);
        seconds.GetOrAdd(route, _ => new()).Observe(duration);
    }

    public string Text()
    {
        var text = new StringBuilder();
        var s = source.Statistics;
        Metric("running_sequences", "gauge", "Sequences that the engine runs.", s.Running);
        Metric("waiting_sequences", "gauge", "Sequences that wait for the engine.", s.Waiting);
        Metric("admitted_sequences", "gauge", "Sequences whose requests are under way.", admission.Inside);
        Metric("kv_blocks", "gauge", "Blocks of the KV cache.", s.Blocks);
        Metric("kv_blocks_in_use", "gauge", "Blocks that sequences hold.", s.BlocksInUse);
        Metric("kv_blocks_cached", "gauge", "Blocks that can be found by their tokens.", s.CachedBlocks);
        Metric("prefix_queried_tokens_total", "counter", "Tokens of admitted sequences.", s.PrefixQueriedTokens);
        Metric("prefix_hit_tokens_total", "counter", "Those of them that the prefix cache had.", s.PrefixHitTokens);
        Metric("computed_tokens_total", "counter", "Tokens whose keys and values were computed.", s.ComputedTokens);
        Metric("generated_tokens_total", "counter", "Tokens sampled.", s.SampledTokens);
        Metric(
            "generated_tokens_per_second",
            "gauge",
            "Tokens sampled a second, since the reading before this one.",
            Rate(s.SampledTokens)
        );
        Metric("steps_total", "counter", "Forward passes.", s.Steps);
        Metric("step_seconds_total", "counter", "Time spent in them.", s.StepSeconds);
        Metric("gpu_seconds_total", "counter", "Time in which the GPU computed them (0 on a CPU).", s.GpuSeconds);
        Metric(
            "preemptions_total",
            "counter",
            "Sequences that lost their blocks and were computed again.",
            s.Preemptions
        );
        Metric("finished_sequences_total", "counter", "Sequences finished or aborted.", s.FinishedSequences);
        Metric("weight_version", "gauge", "Version of the weights.", s.WeightVersion);
        Metric("connections", "gauge", "Open connections.", connections.Open);
        Metric("connections_refused_total", "counter", "Connections refused for their number.", connections.Refused);
        Metric("body_bytes", "gauge", "Bytes of request bodies in memory.", bodies.Used);
        Head("requests_total", "counter", "Requests by route and status; 499 where the client went away.");
        foreach (var (key, count) in requests.OrderBy(r => r.Key))
            Line("requests_total", $"route=\"{key.Route}\",status=\"{key.Status}\"", count);
        Head("request_seconds", "histogram", "From a request's arrival to the end of its answer.");
        foreach (var (route, histogram) in seconds.OrderBy(r => r.Key, StringComparer.Ordinal))
            Buckets("request_seconds", $"route=\"{route}\"", histogram);
        Head("first_token_seconds", "histogram", "From a request's arrival to its first token.");
        Buckets("first_token_seconds", "", FirstToken);
        return text.ToString();

        void Head(string name, string type, string help) =>
            text.Append(
                CultureInfo.InvariantCulture,
                $"# HELP simple_r1_{name} {help}\n# TYPE simple_r1_{name} {type}\n"
            );
        void Line(string name, string labels, double value) =>
            text.Append(
                CultureInfo.InvariantCulture,
                $"simple_r1_{name}{(labels.Length > 0 ? $"{{{labels}}}" : "")} {value}\n"
            );
        void Metric(string name, string type, string help, double value)
        {
            Head(name, type, help);
            Line(name, "", value);
        }
        void Buckets(string name, string labels, Histogram histogram)
        {
            var (counts, sum) = histogram.Read();
            long below = 0;
            string comma = labels.Length > 0 ? "," : "";
            for (int i = 0; i <= Histogram.Bounds.Length; i++)
            {
                below += counts[i];
                string bound =
                    i < Histogram.Bounds.Length ? Histogram.Bounds[i].ToString(CultureInfo.InvariantCulture) : "+Inf";
                Line(name + "_bucket", $"{labels}{comma}le=\"{bound}\"", below);
            }
            Line(name + "_sum", labels, sum);
            Line(name + "_count", labels, below);
        }
    }

    /// <summary>A reading less than a second after the one before gives the same again.</summary>
    private double Rate(long tokens)
    {
        lock (rating)
        {
            double passed = Stopwatch.GetElapsedTime(before.At).TotalSeconds;
            if (passed < 1)
                return rate;
            rate = (tokens - before.Tokens) / passed;
            before = (Stopwatch.GetTimestamp(), tokens);
            return rate;
        }
    }
}
