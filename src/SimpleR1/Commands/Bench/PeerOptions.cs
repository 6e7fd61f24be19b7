using System.CommandLine;
using SimpleR1.Bench;
using SimpleR1.Bench.Training;
using SimpleR1.Commands.Options;
using SimpleR1.Models;

namespace SimpleR1.Commands.Bench;

/// <summary>Which other programs measure the same step.</summary>
internal sealed class PeerOptions
{
    private const string None = "none";
    private const string All = "all";

    private readonly Option<string> peer;
    private readonly Option<int> timeout;
    private readonly Option<string> python;

    public PeerOptions(Command command)
    {
        peer = command
            .AddDefault("--peer", None)
            .Describe(
                "Also measure the step in PyTorch with transformers: eager, compile (torch.compile), all or none"
            );
        peer.AcceptOnlyFromAmong([None, .. TransformersPeer.Variants, All]);
        timeout = command
            .AddDefault("--peer-timeout", 300)
            .Describe("Seconds after which a peer is ended; compilation counts");
        python = command
            .AddDefault("--python", "python3")
            .Describe("The Python that has PyTorch and transformers, for --peer");
    }

    /// <exception cref="ArgumentException">An option makes no sense.</exception>
    public void Check(ParseResult parse)
    {
        if (parse.GetValue(timeout) < 1)
            throw new ArgumentException($"--peer-timeout: expected at least 1, found {parse.GetValue(timeout)}");
    }

    /// <summary>
    /// Measures the chosen peers, one after another, and prints each next to SimpleR1. The GPU's memory must be free.
    /// </summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="results">SimpleR1's; takes the peers'.</param>
    /// <returns>Whether all have figures; the errors of others are printed.</returns>
    public async Task<bool> MeasureAsync(
        ParseResult parse,
        ModelConfig config,
        TrainBenchmarkOptions options,
        List<BenchmarkResult> results
    )
    {
        var transformers = new TransformersPeer(config, options)
        {
            Python = parse.GetValue(python)!,
            Timeout = TimeSpan.FromSeconds(parse.GetValue(timeout)),
        };
        bool complete = true;
        var own = results[0];
        foreach (string variant in Chosen(parse))
        {
            try
            {
                Console.WriteLine(
                    $"peer   transformers {variant} starts (up to {transformers.Timeout.TotalSeconds:0} s)"
                );
                var figures = await transformers.MeasureAsync(variant);
                Console.WriteLine(figures.Describe(own));
                results.Add(figures.ToResult(own));
            }
            catch (Exception e) when (e is IOException or TimeoutException or InvalidDataException)
            {
                complete = false;
                Console.Error.WriteLine($"error: --peer {variant}: {e.Message}");
            }
        }
        return complete;
    }

    private IEnumerable<string> Chosen(ParseResult parse) =>
        parse.GetValue(peer) switch
        {
            None => [],
            All => TransformersPeer.Variants,
            var one => [one!],
        };
}
