using System.Globalization;
using SimpleR1.Inference;

namespace SimpleR1.Bench;

/// <summary>The requests of the cases that run the whole engine; prompts are random token ids.</summary>
internal sealed class EngineRequests(EngineBenchmarkOptions options, int vocabulary)
{
    public static readonly string[] Cases = ["groups", "lengths", "single"];

    public GenerationRequest[] ForCase(string name) =>
        name switch
        {
            "groups" => Groups(),
            "lengths" => Lengths(),
            _ => Single(),
        };

    /// <summary>128 prompts of 128 tokens, 8 samples each, 256 new tokens.</summary>
    private GenerationRequest[] Groups()
    {
        var sampling = new SamplingParameters
        {
            Samples = 8,
            Temperature = 1,
            MaxTokens = options.Scaled(256),
            IgnoreEos = true,
        };
        return
        [
            .. Enumerable.Range(0, options.Scaled(128)).Select(i => Request(i, 128, sampling with { Seed = (ulong)i })),
        ];
    }

    /// <summary>nano-vllm's benchmark: the lengths that its random numbers give.</summary>
    private GenerationRequest[] Lengths()
    {
        using var stream = typeof(EngineRequests).Assembly.GetManifestResourceStream("nano-vllm-lengths.txt")!;
        using var reader = new StreamReader(stream);
        string[] lines = [.. reader.ReadToEnd().Split('\n').Where(l => l.Length > 0 && l[0] != '#')];

        GenerationRequest Parse(string line, int i)
        {
            int[] lengths = [.. line.Split(' ').Select(n => int.Parse(n, CultureInfo.InvariantCulture))];
            var sampling = new SamplingParameters
            {
                Temperature = 0.6,
                MaxTokens = options.Scaled(lengths[1]),
                IgnoreEos = true,
                Seed = (ulong)i,
            };
            return Request(i, options.Scaled(lengths[0]), sampling);
        }
        return [.. lines.Take(options.Scaled(lines.Length)).Select(Parse)];
    }

    /// <summary>One sequence, 128 + 512 tokens.</summary>
    private GenerationRequest[] Single()
    {
        var sampling = new SamplingParameters
        {
            Temperature = 1,
            MaxTokens = options.Scaled(512),
            IgnoreEos = true,
        };
        return [Request(0, 128, sampling)];
    }

    private GenerationRequest Request(int number, int promptLength, SamplingParameters sampling)
    {
        var random = new Random(number);
        int ids = Math.Min(10_000, vocabulary);
        int[] prompt = [.. Enumerable.Range(0, promptLength).Select(_ => random.Next(ids))];
        return new($"r{number}", prompt, sampling);
    }
}
