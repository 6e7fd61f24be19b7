using System.Text.RegularExpressions;
using SimpleR1.Training.Runs;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>Pages that list things of the code: metrics and error messages.</summary>
public sealed partial class ReferencePageTests
{
    private static string Source(string path) => File.ReadAllText(Path.Combine(SharedData.RepositoryRoot, path));

    /// <summary>Names are read from the files that write them, wherever they stand in a pair or as a key.</summary>
    [Fact]
    public void Metrics_of_runs_are_explained()
    {
        string[] files =
        [
            .. Pages
                .Files("*.cs", "src/SimpleR1.Training")
                .Where(f =>
                    Path.GetFileName(f)
                        is "StepReport.cs"
                            or "RunLog.cs"
                            or "EngineWork.cs"
                            or "Algorithm.cs"
                            or "Grpo.cs"
                ),
        ];
        string[] names =
        [
            .. files.SelectMany(f => MetricName().Matches(Source(f)).Select(m => m.Groups[1].Value)).Distinct(),
            .. ElapsedTime.None.Metrics().Select(m => m.Key),
        ];
        Assert.True(names.Length >= 20, $"only {names.Length} metrics found in {string.Join(", ", files)}");
        Assert.Equal([], names.Where(n => !Explained(n)));
    }

    [Fact]
    public async Task Metrics_of_the_server_are_explained()
    {
        await using var server = await Server.TestServer.StartAsync();
        string text = await server.Client.GetStringAsync("/metrics", TestContext.Current.CancellationToken);
        string[] names = [.. ServerMetric().Matches(text).Select(m => m.Groups[1].Value)];
        Assert.True(names.Length >= 20, $"only {names.Length} metrics found");
        Assert.Equal([], names.Where(n => !Explained(n)));
    }

    /// <summary>A message in the first column is text of the code; … stands for what varies.</summary>
    [Fact]
    public void Messages_of_the_troubleshooting_page_are_in_the_code()
    {
        var page = Pages.Of("docs/troubleshooting.md");
        string[] messages =
        [
            .. page
                .Lines.Where(l => l.StartsWith("| `", StringComparison.Ordinal))
                .Select(l => FirstSpan().Match(l).Groups[1].Value)
                .Where(m => !m.StartsWith('/')),
        ];
        Assert.True(messages.Length >= 30, $"only {messages.Length} messages");
        Assert.Equal(
            [],
            messages.Where(m =>
                !m.Split('…').Select(p => p.Trim(' ', ':')).Where(p => p.Length >= 4).All(CodeNames.Instance.HasText)
            )
        );
    }

    private static bool Explained(string metric) =>
        Pages.Of("docs/metrics.md").Text.Contains($"`{metric}`", StringComparison.Ordinal);

    [GeneratedRegex("""[(\[]"([a-z]+(?:_[a-z]+)*)"(?:, [A-Z(io]|\] = )""")]
    private static partial Regex MetricName();

    [GeneratedRegex("^# HELP ([a-z0-9_]+)", RegexOptions.Multiline)]
    private static partial Regex ServerMetric();

    [GeneratedRegex("^\\| `([^`]+)`")]
    private static partial Regex FirstSpan();
}
