using System.Text.Json;

namespace SimpleR1.Bench.Training;

/// <summary>What benchmarks/peers/transformers_train.py prints: the same step in PyTorch with transformers.</summary>
internal sealed record PeerFigures
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        RespectNullableAnnotations = true,
    };

    /// <summary>"eager" or "compile".</summary>
    public required string Variant { get; init; }

    /// <summary>The median.</summary>
    public required double StepSeconds { get; init; }
    public required double LeastStepSeconds { get; init; }
    public required double MostStepSeconds { get; init; }
    public required double TokensPerSecond { get; init; }

    /// <summary>The most that tensors held at once.</summary>
    public required double PeakAllocatedGib { get; init; }

    /// <summary>The most that PyTorch's allocator held, unused parts included.</summary>
    public required double PeakReservedGib { get; init; }

    /// <summary>Sequences computed at once.</summary>
    public required int MicroBatch { get; init; }

    /// <summary>Sequences that it tried to compute at once first; more than <see cref="MicroBatch"/> did not fit.</summary>
    public required int AskedMicroBatch { get; init; }

    /// <summary>transformers' name of the implementation: "sdpa".</summary>
    public required string Attention { get; init; }

    /// <summary>PyTorch's name: "bfloat16".</summary>
    public required string Type { get; init; }

    /// <summary>PyTorch's version.</summary>
    public required string Torch { get; init; }

    /// <summary>Its version.</summary>
    public required string Transformers { get; init; }

    /// <summary>Reads the last line of JSON; libraries may have printed others before it.</summary>
    /// <exception cref="InvalidDataException">There is none, or it lacks a figure.</exception>
    public static PeerFigures Parse(string output)
    {
        string? line = output.Split('\n', StringSplitOptions.TrimEntries).LastOrDefault(l => l.StartsWith('{'));
        if (line is null)
            throw new InvalidDataException(
                $"expected a line of JSON from the peer, found {(output.Trim() is { Length: > 0 } text ? text : "nothing")}"
            );
        try
        {
            return JsonSerializer.Deserialize<PeerFigures>(line, Json)!;
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"the peer's figures can't be read: {e.Message}\n{line}", e);
        }
    }

    /// <param name="own">SimpleR1's figures of the same run.</param>
    public BenchmarkResult ToResult(BenchmarkResult own) =>
        new($"train_transformers_{Variant}", own.Model, own.Device, own.Type, ToFigures(own))
        {
            Software = new(StringComparer.Ordinal)
            {
                ["attention"] = Attention,
                ["torch"] = Torch,
                ["transformers"] = Transformers,
            },
        };

    private SortedDictionary<string, double> ToFigures(BenchmarkResult own) =>
        new(StringComparer.Ordinal)
        {
            ["step_seconds"] = StepSeconds,
            ["least_step_seconds"] = LeastStepSeconds,
            ["most_step_seconds"] = MostStepSeconds,
            ["tokens_per_second"] = TokensPerSecond,
            ["peak_allocated_gib"] = PeakAllocatedGib,
            ["peak_reserved_gib"] = PeakReservedGib,
            ["micro_batch_sequences"] = MicroBatch,
            ["simple_r1_speed_ratio"] = SpeedRatio(own),
        };

    /// <summary>How many times as fast SimpleR1's step is: above 1, SimpleR1 is faster.</summary>
    private double SpeedRatio(BenchmarkResult own) => StepSeconds / own.Figures["step_seconds"];

    /// <summary>Two lines for people.</summary>
    /// <inheritdoc cref="ToResult"/>
    public string Describe(BenchmarkResult own)
    {
        string smaller = MicroBatch < AskedMicroBatch ? $" ({AskedMicroBatch} did not fit)" : "";
        return $"peer   transformers {Variant}: {1e3 * StepSeconds:0.0} ms "
            + $"[{1e3 * LeastStepSeconds:0.0}, {1e3 * MostStepSeconds:0.0}], {TokensPerSecond:N0} tokens/s; "
            + $"SimpleR1 is {SpeedRatio(own):0.00} times as fast\n"
            + $"       {MicroBatch} sequences at once{smaller}, {Type}, {Attention}, peak {PeakAllocatedGib:0.00} GiB "
            + $"({PeakReservedGib:0.00} reserved); transformers {Transformers}, PyTorch {Torch}";
    }
}
