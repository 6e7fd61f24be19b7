using System.Diagnostics;
using SimpleR1.Inference;
using SimpleR1.Models;

namespace SimpleR1.Bench;

/// <summary>Seconds from the start of this process until its device was open and its weights were loaded.</summary>
internal sealed class StartTimes
{
    public double Device { get; private set; }
    public double Weights { get; private set; }

    public void DeviceOpened() => Device = SinceStart();

    public void WeightsLoaded() => Weights = SinceStart();

    public static double SinceStart() => (DateTime.Now - Process.GetCurrentProcess().StartTime).TotalSeconds;
}

/// <summary>How long a process takes from its start to the first token of its first prompt.</summary>
internal sealed class StartBenchmark(FlatWeights weights, string model, EngineOptions options, Action<string> log)
{
    private const int PromptTokens = 128;

    public BenchmarkResult Run(StartTimes times)
    {
        // The engine, and one token.
        using var decoder = new Decoder(weights);
        using var engine = new Engine(decoder, null, options);
        double ready = StartTimes.SinceStart();
        double first = 0;
        int[] prompt = [.. Enumerable.Range(0, PromptTokens).Select(i => i % weights.Layout.Config.VocabularySize)];
        engine.Submit([new("first", prompt, new() { MaxTokens = 1 })], onToken: _ => first = StartTimes.SinceStart());
        while (engine.Step()) { }

        // Where the time went.
        var figures = new SortedDictionary<string, double>(StringComparer.Ordinal)
        {
            ["seconds_to_first_token"] = first,
            ["seconds_device"] = times.Device,
            ["seconds_weights"] = times.Weights - times.Device,
            ["seconds_engine"] = ready - times.Weights,
            ["seconds_first_prompt"] = first - ready,
        };
        log(
            $"start     {first:0.00} s to the first token: {figures["seconds_device"]:0.00} until the device is open, "
                + $"{figures["seconds_weights"]:0.00} for the weights, "
                + $"{figures["seconds_engine"]:0.00} for the engine, "
                + $"{figures["seconds_first_prompt"]:0.00} for a prompt of {PromptTokens} tokens"
        );
        return new("start", model, weights.Device?.Name ?? "CPU", weights.Flat.dtype.ToString(), figures);
    }
}
