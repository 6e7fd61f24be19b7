using System.Globalization;
using System.Text;

namespace SimpleR1.Server.Metrics;

/// <summary>Metrics in Prometheus' text format 0.0.4.</summary>
internal sealed class PrometheusText
{
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    private readonly StringBuilder text = new();

    public override string ToString() => text.ToString();

    public void Gauge(string name, string help, double value) => Single(name, "gauge", help, value);

    public void Counter(string name, string help, double value) => Single(name, "counter", help, value);

    /// <summary>A counter with labels.</summary>
    public void Counters(string name, string help, IEnumerable<(string Labels, long Value)> values)
    {
        Head(name, "counter", help);
        foreach (var (labels, value) in values)
            Line(name, labels, value);
    }

    /// <summary>Histograms of one name, each with its labels ("" for none).</summary>
    public void Histograms(string name, string help, IEnumerable<(string Labels, Histogram Values)> histograms)
    {
        Head(name, "histogram", help);
        foreach (var (labels, values) in histograms)
            Buckets(name, labels, values);
    }

    private void Single(string name, string type, string help, double value)
    {
        Head(name, type, help);
        Line(name, "", value);
    }

    private void Buckets(string name, string labels, Histogram histogram)
    {
        var (counts, sum) = histogram.Read();
        string separator = labels.Length > 0 ? "," : "";
        long total = 0; // buckets are cumulative
        for (int i = 0; i < counts.Length; i++)
        {
            total += counts[i];
            string bound =
                i < Histogram.Bounds.Length ? Histogram.Bounds[i].ToString(CultureInfo.InvariantCulture) : "+Inf";
            Line(name + "_bucket", $"{labels}{separator}le=\"{bound}\"", total);
        }
        Line(name + "_sum", labels, sum);
        Line(name + "_count", labels, total);
    }

    private void Head(string name, string type, string help) =>
        text.Append($"# HELP simple_r1_{name} {help}\n").Append($"# TYPE simple_r1_{name} {type}\n");

    private void Line(string name, string labels, double value)
    {
        string braced = labels.Length > 0 ? $"{{{labels}}}" : "";
        text.Append(CultureInfo.InvariantCulture, $"simple_r1_{name}{braced} {value}\n");
    }
}
