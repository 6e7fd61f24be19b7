using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tests.Inference;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>The engine on a GPU against the engine on the CPU, and against itself run in other ways.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed partial class GpuEngineTests
{
    private static readonly EngineOptions Options = new()
    {
        KvCacheBytes = 4 << 20,
        MaxSequences = 64,
        MaxBatchedTokens = 512,
        MaxContext = 256,
    };
    private static readonly SamplingParameters Greedy = new()
    {
        Temperature = 0,
        MaxTokens = 40,
        IgnoreEos = true,
    };

    /// <summary>Sizes that GPU kernels can have: multiples of 8.</summary>
    private static ModelConfig Config(
        ModelFamily? family = null,
        int heads = 4,
        int kvHeads = 2,
        int dimension = 16,
        int vocabulary = 64
    ) =>
        TinyModels.Config(family, vocabulary) with
        {
            HiddenSize = 32,
            IntermediateSize = 48,
            Heads = heads,
            KeyValueHeads = kvHeads,
            HeadDimension = dimension,
        };

    private sealed class Model : IDisposable
    {
        private readonly FlatWeights weights;
        private readonly Decoder decoder;

        public Model(FlatWeights cpu, ScalarType? type, EngineOptions? options = null)
        {
            weights = type is { } t ? cpu.CopyTo(Gpu.Require(), t) : cpu;
            decoder = new(weights);
            Engine = new(decoder, null, options ?? Options);
        }

        public Engine Engine { get; }

        public List<Completion> Run(params GenerationRequest[] requests)
        {
            var completions = new List<Completion>();
            Engine.Submit(requests, onCompletion: completions.Add);
            while (Engine.Step())
                Engine.CheckInvariants();
            return
            [
                .. completions
                    .OrderBy(c => Array.FindIndex(requests, r => r.Id == c.RequestId))
                    .ThenBy(c => c.SampleIndex),
            ];
        }

        public List<Completion> Submit(params GenerationRequest[] requests)
        {
            var completions = new List<Completion>();
            Engine.Submit(requests, onCompletion: completions.Add);
            return completions;
        }

        public void Dispose()
        {
            Engine.Dispose();
            decoder.Dispose();
            if (weights.Device is not null)
                weights.Dispose();
        }
    }

    /// <summary>
    /// Two engines of one device, of different sizes, step by step in turn: each keeps its own activations and
    /// graphs.
    /// </summary>
    [Fact]
    public void Two_engines_on_one_device_do_not_disturb_each_other()
    {
        using var cpu = TinyModels.Random(Config());
        GenerationRequest[] requests = [new("a", [1, 2, 3, 4, 5], Greedy with { MaxTokens = 12 })];
        List<int> expected;
        using (var alone = new Model(cpu, ScalarType.Float32))
            expected = [.. alone.Run(requests)[0].Tokens];

        using var small = new Model(cpu, ScalarType.Float32, Options with { MaxBatchedTokens = 64, MaxSequences = 8 });
        var fromSmall = small.Submit(requests);
        for (int step = 0; step < 4; step++)
            Assert.True(small.Engine.Step());
        using var large = new Model(cpu, ScalarType.Float32); // takes more memory than the small one has
        var fromLarge = large.Submit(requests);
        bool smallRuns = true,
            largeRuns = true;
        while (smallRuns || largeRuns)
        {
            smallRuns = smallRuns && small.Engine.Step();
            largeRuns = largeRuns && large.Engine.Step();
        }
        Assert.Equal(expected, fromSmall[0].Tokens);
        Assert.Equal(expected, fromLarge[0].Tokens);
    }

    private static void AssertSame(List<Completion> expected, List<Completion> found, double tolerance)
    {
        Assert.Equal(expected.Count, found.Count);
        foreach (var (a, b) in expected.Zip(found))
        {
            Assert.Equal((a.RequestId, a.SampleIndex), (b.RequestId, b.SampleIndex));
            Assert.Equal(a.Tokens, b.Tokens);
            Assert.Equal(a.FinishReason, b.FinishReason);
            for (int i = 0; i < a.LogProbs.Length; i++)
                Assert.Equal(a.LogProbs[i], b.LogProbs[i], tolerance);
        }
    }

    /// <summary>12 requests of mixed lengths, some with several samples and equal beginnings.</summary>
    private static GenerationRequest[] Mixed(SamplingParameters sampling, int count = 12) =>
        [
            .. Enumerable
                .Range(0, count)
                .Select(i => new GenerationRequest(
                    "r" + i,
                    TestEngine.Prompt(3 + 13 * (i % 6), i % 4),
                    sampling with
                    {
                        Seed = (ulong)i,
                        Samples = 1 + i % 3,
                    }
                )),
        ];

    [Theory, InlineData("llama"), InlineData("llama3_rope"), InlineData("qwen2"), InlineData("qwen3")]
    public void Each_family_gives_the_float64_references_greedy_tokens(string family)
    {
        var gpu = Gpu.Require();
        string folder = Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tiny-random", family);
        using var document = System.Text.Json.JsonDocument.Parse(
            File.ReadAllBytes(Path.Combine(folder, "reference_fp64.json"))
        );
        int[] prompt =
        [
            .. document
                .RootElement.GetProperty("sequences")[2]
                .GetProperty("ids")
                .EnumerateArray()
                .Take(20)
                .Select(e => e.GetInt32()),
        ];
        int[] expected =
        [
            .. document
                .RootElement.GetProperty("greedy_from_first_20_of_sequence_2")
                .EnumerateArray()
                .Select(e => e[0].GetInt32()),
        ];
        using var cpu = Checkpoint.Load(folder);
        using var onCpu = new Model(cpu, null);
        using var loaded = Checkpoint.Load(folder, ScalarType.Float32, gpu); // straight from the file
        using var copied = cpu.CopyTo(gpu, ScalarType.Float32);
        Assert.Equal(
            gpu.Read<float>(copied.Pointer, (int)copied.Layout.Length),
            gpu.Read<float>(loaded.Pointer, (int)loaded.Layout.Length)
        );
        using var onGpu = new Model(cpu, ScalarType.Float32);
        var request = new GenerationRequest("r", prompt, Greedy with { MaxTokens = expected.Length });
        var completion = onGpu.Run(request);
        Assert.Equal(expected, completion[0].Tokens);
        AssertSame(onCpu.Run(request), completion, 1e-3);
    }

    [Fact]
    public void TinyStories_gives_the_CPUs_tokens_in_f32_and_close_log_probs_in_bf16()
    {
        Gpu.Require();
        using var cpu = Checkpoint.Load(SharedData.Require("models/TinyStories-656K"));
        using var onCpu = new Model(cpu, null);
        using var f32 = new Model(cpu, ScalarType.Float32);
        using var bf16 = new Model(cpu, ScalarType.BFloat16);
        GenerationRequest[] requests =
        [
            .. Enumerable
                .Range(0, Gpu.Small ? 2 : 8)
                .Select(i => new GenerationRequest(
                    "r" + i,
                    [1, .. TestEngine.Prompt(5 + 20 * i, i, 2000)],
                    Greedy with
                    {
                        MaxTokens = 60,
                    }
                )),
        ];
        var expected = onCpu.Run(requests);
        AssertSame(expected, f32.Run(requests), 1e-3);
        // The tokens that f32 took, under bf16: prompts of growing length, one token each, whose log-prob is that of
        // the most probable token.
        var differences = new List<double>();
        foreach (var (request, completion) in requests.Zip(expected))
        {
            int[] steps = [.. Enumerable.Range(0, 60).Where(i => i % 6 == 0)];
            GenerationRequest[] parts =
            [
                .. steps.Select(i => new GenerationRequest(
                    $"{request.Id}-{i}",
                    [.. request.PromptTokens, .. completion.Tokens[..i]],
                    Greedy with
                    {
                        MaxTokens = 1,
                        TopLogProbs = 20,
                    }
                )),
            ];
            foreach (var (part, i) in bf16.Run(parts).Zip(steps))
                differences.Add(
                    Math.Abs(
                        part.TopLogProbs![0].First(t => t.Token == completion.Tokens[i]).LogProb
                            - completion.LogProbs[i]
                    )
                );
        }
        Assert.True(differences.Average() <= 0.01, $"mean |Δ log-prob| of bf16: {differences.Average():0.0000}");
    }

    public static readonly TheoryData<string> Samplings = ["plain", "filters", "penalties", "changes", "top", "greedy"];

    /// <summary>Every sampling parameter: the GPU draws what the CPU draws.</summary>
    [Theory, MemberData(nameof(Samplings))]
    public void Sampling_parameters_mean_the_same_as_on_the_CPU(string which)
    {
        Gpu.Require();
        using var cpu = TinyModels.Random(Config(vocabulary: 320), scale: 0.4);
        using var onCpu = new Model(cpu, null);
        using var onGpu = new Model(cpu, ScalarType.Float32);
        var s = new SamplingParameters { MaxTokens = 24, Temperature = 0.9 };
        s = which switch
        {
            "filters" => s with { TopK = 20, TopP = 0.9, MinP = 0.01 },
            "penalties" => s with
            {
                RepetitionPenalty = 1.3,
                PresencePenalty = 0.4,
                FrequencyPenalty = 0.2,
                IgnoreEos = true,
            },
            "changes" => s with
            {
                LogitBias = new Dictionary<int, float>
                {
                    [7] = 3,
                    [9] = float.NegativeInfinity,
                    [11] = 1.5f,
                },
                BadWords =
                [
                    [7, 7],
                    [5],
                ],
                MinTokens = 12,
                StopTokenIds = [7, 11],
            },
            "top" => s with { TopLogProbs = 7, TopK = 50 },
            "greedy" => s with { Temperature = 0, RepetitionPenalty = 1.1 },
            _ => s,
        };
        var (expected, found) = (onCpu.Run(Mixed(s)), onGpu.Run(Mixed(s)));
        AssertSame(expected, found, 1e-3);
        if (which == "top")
            foreach (var (a, b) in expected.SelectMany(c => c.TopLogProbs!).Zip(found.SelectMany(c => c.TopLogProbs!)))
            {
                Assert.Equal(a.Length, b.Length);
                foreach (var (x, y) in a.Zip(b))
                    Assert.Equal(x.LogProb, y.LogProb, 1e-3);
            }
    }

    public static readonly TheoryData<string, ScalarType> Ways =
    [
        .. from way in new[] { "no graphs", "no prefix cache", "chunked", "tiny pool", "two sequences" }
        from type in new[] { ScalarType.Float32, ScalarType.BFloat16 }
        select (way, type),
    ];

    /// <summary>In bf16 with the tensor-core kernels, in f32 with the plain one.</summary>
    [Theory, MemberData(nameof(Ways))]
    public void Greedy_tokens_do_not_depend_on_how_the_engine_works(string way, ScalarType type)
    {
        Gpu.Require();
        var config =
            type == ScalarType.Float32 ? Config() : Config(ModelFamily.Qwen2, heads: 6, kvHeads: 2, dimension: 64);
        using var cpu = TinyModels.Random(config, scale: 0.25);
        using var plain = new Model(cpu, type);
        long block = new KvLayout(config, type, 16).BytesPerBlock;
        using var other = new Model(
            cpu,
            type,
            way switch
            {
                "no graphs" => Options with { CudaGraphs = false },
                "no prefix cache" => Options with { PrefixCaching = false },
                "chunked" => Options with { MaxBatchedTokens = 40, MaxSequences = 40 },
                "tiny pool" => Options with { KvCacheBytes = 9 * block },
                _ => Options with { MaxSequences = 2 },
            }
        );
        var expected = plain.Run(Mixed(Greedy));
        var found = other.Run(Mixed(Greedy));
        var statistics = other.Engine.Statistics;
        if (way == "tiny pool")
            Assert.True(statistics.Preemptions > 0);
        Assert.Equal(way == "no prefix cache", statistics.PrefixHitTokens == 0);
        Assert.Equal((0, 0, 0), (statistics.Running, statistics.Waiting, statistics.BlocksInUse));
        if (type == ScalarType.Float32)
        {
            AssertSame(expected, found, 1e-3);
            return;
        }
        // In bf16 another order of sums may break a tie: only a token whose probability was about that of the first
        // may replace it.
        foreach (var (a, b) in expected.Zip(found))
            for (int i = 0; i < a.Tokens.Length; i++)
            {
                Assert.Equal(a.LogProbs[i], b.LogProbs[i], 0.1);
                if (a.Tokens[i] != b.Tokens[i])
                    break;
            }
        if (way == "no graphs")
            Assert.Equal(
                expected.Select(c => string.Join(' ', c.Tokens)),
                found.Select(c => string.Join(' ', c.Tokens))
            );
    }
}
