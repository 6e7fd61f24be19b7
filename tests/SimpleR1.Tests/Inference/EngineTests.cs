using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed class EngineTests
{
    private static readonly SamplingParameters Greedy = TestEngine.Greedy;

    private static GenerationRequest[] Mixed(SamplingParameters sampling) =>
        [
            .. Enumerable
                .Range(0, 12)
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

    public static readonly TheoryData<string> Ways =
    [
        "no prefix cache",
        "chunked",
        "tiny pool",
        "one at a time",
        "two sequences",
        "blocks of 32",
    ];

    /// <summary>Wide enough for every vector loop and its rest.</summary>
    private static readonly ModelConfig Wide = TinyModels.Config(ModelFamily.Llama) with
    {
        HiddenSize = 237,
        IntermediateSize = 331,
        HeadDimension = 42,
    };

    [Theory, MemberData(nameof(Ways))]
    public void Tokens_and_log_probs_do_not_depend_on_how_the_engine_works(string way)
    {
        foreach (
            var (config, sampling) in new[]
            {
                (TinyModels.Config(), Greedy),
                (TinyModels.Config(), Greedy with { Temperature = 1.1, IgnoreEos = false }),
                (Wide, Greedy with { Temperature = 1 }),
            }
        )
        {
            using var plain = new TestEngine(config: config);
            var expected = plain.Run(Mixed(sampling));
            using var other = way switch
            {
                "no prefix cache" => new TestEngine(new() { PrefixCaching = false }, config),
                "chunked" => new(new() { MaxBatchedTokens = 23, MaxSequences = 23 }, config),
                "tiny pool" => new(config: config, blocks: 9),
                "two sequences" => new(new() { MaxSequences = 2 }, config),
                "blocks of 32" => new(new() { BlockSize = 32 }, config),
                _ => new TestEngine(config: config),
            };
            List<Completion> found =
                way == "one at a time"
                    ? [.. Mixed(sampling).SelectMany(r => other.Run(r))]
                    : other.Run(Mixed(sampling));
            TestEngine.AssertSameTokens(expected, found);
            var statistics = other.Engine.Statistics;
            if (way == "tiny pool")
                Assert.True(statistics.Preemptions > 0);
            Assert.Equal(way == "no prefix cache", statistics.PrefixHitTokens == 0);
            Assert.Equal((0, 0, 0), (statistics.Running, statistics.Waiting, statistics.BlocksInUse));
        }
    }

    [Fact]
    public void Samples_of_a_request_share_the_prompts_full_blocks_from_their_first_step_on()
    {
        using var test = new TestEngine();
        test.Engine.Submit([new("r", TestEngine.Prompt(50), Greedy with { Samples = 8 })]);
        test.Step();
        Assert.Equal(8, test.Engine.Statistics.Running);
        Assert.Equal(3 + 8, test.Engine.Statistics.BlocksInUse); // 48 shared tokens, and a block of its own for each
        Assert.Equal(50 + 7 * 2, test.Engine.Statistics.ComputedTokens);
        Assert.True(test.Engine.Abort("r"));
        Assert.Equal(
            [0, 48],
            test.Run(new GenerationRequest("cold", TestEngine.Prompt(50, 1), Greedy with { Samples = 2 }))
                .Select(c => c.CachedPromptTokens)
        );
    }

    [Theory, InlineData("llama"), InlineData("llama3_rope"), InlineData("qwen2"), InlineData("qwen3")]
    public void Greedy_tokens_through_the_paged_path_equal_the_float64_reference(string family)
    {
        string folder = Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tiny-random", family);
        using var weights = Checkpoint.Load(folder);
        using var decoder = new Decoder(weights);
        using var engine = new Engine(
            decoder,
            null,
            new()
            {
                KvCacheBytes = 1 << 24,
                MaxBatchedTokens = 8,
                MaxSequences = 8,
            }
        );
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
        Completion? completion = null;
        engine.Submit(
            [new("r", prompt, Greedy with { MaxTokens = expected.Length })],
            onCompletion: c => completion = c
        );
        while (engine.Step())
            engine.CheckInvariants();
        Assert.Equal(expected, completion!.Tokens);
    }

    [Fact]
    public void Log_probs_are_the_training_paths_log_softmax()
    {
        using var test = new TestEngine();
        var completion = test.Run(
            new GenerationRequest(
                "r",
                TestEngine.Prompt(21),
                new()
                {
                    MaxTokens = 30,
                    Temperature = 0.7,
                    IgnoreEos = true,
                    Seed = 5,
                }
            )
        )[0];
        int[] all = [.. TestEngine.Prompt(21), .. completion.Tokens];
        double[][] logits = TestEngine.Logits(test, all);
        for (int i = 0; i < 30; i++)
            Assert.Equal(
                TestEngine.LogSoftmax(logits[20 + i], 0.7)[completion.Tokens[i]],
                completion.LogProbs[i],
                1e-5
            );
    }

    [Fact]
    public void Weights_that_are_not_finite_are_an_error_that_names_the_request()
    {
        using var test = new TestEngine();
        using (TorchSharp.torch.no_grad())
            test.Weights.Flat.fill_(float.NaN);
        test.Engine.Submit([new("the-request", [2, 3], Greedy)]);
        Assert.Contains("the-request", Assert.Throws<ArithmeticException>(() => test.Engine.Step()).Message);
        Assert.Throws<InvalidOperationException>(() => test.Engine.Submit([new("next", [2], Greedy)]));
    }

    [Fact]
    public void Logits_of_many_rows_are_made_in_chunks_without_a_trace()
    {
        var config = TinyModels.Config(vocabulary: 400_000); // 41 rows fit in one chunk
        using var test = new TestEngine(config: config);
        var one = test.Run(
            new GenerationRequest("a", [5, 6], Greedy with { MaxTokens = 2, Temperature = 1, Samples = 60 })
        );
        Assert.Equal(60, one.Count);
        foreach (int sample in new[] { 40, 41, 59 })
        {
            using var again = new TestEngine(config: config);
            Assert.Equal(
                one[sample].Tokens,
                again
                    .Run(
                        new GenerationRequest(
                            "a",
                            [5, 6],
                            Greedy with
                            {
                                MaxTokens = 2,
                                Temperature = 1,
                                Samples = sample + 1,
                            }
                        )
                    )[sample]
                    .Tokens
            );
        }
    }

    [Fact]
    public void Steps_leave_no_tensor_behind()
    {
        using var test = new TestEngine();
        test.Run(Mixed(Greedy));
        var count = TorchSharp.DisposeScopeManager.Statistics;
        long before = count.ThreadTotalLiveCount;
        for (int i = 0; i < 3; i++)
            test.Run(Mixed(Greedy with { Temperature = 1 }));
        Assert.True(test.Engine.Statistics.Steps > 100);
        Assert.Equal(before, count.ThreadTotalLiveCount);
    }
}
