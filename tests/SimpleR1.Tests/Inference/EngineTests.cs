using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using Xunit;

namespace SimpleR1.Tests.Inference;

public sealed class EngineTests
{
    private static readonly SamplingParameters Greedy = new()
    {
        Temperature = 0,
        MaxTokens = 40,
        IgnoreEos = true,
    };

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

    private static void AssertSameTokens(List<Completion> expected, List<Completion> found)
    {
        Assert.Equal(expected.Count, found.Count);
        foreach (var (a, b) in expected.Zip(found))
        {
            Assert.Equal((a.RequestId, a.SampleIndex, a.FinishReason), (b.RequestId, b.SampleIndex, b.FinishReason));
            Assert.Equal(a.Tokens, b.Tokens);
            Assert.Equal(a.LogProbs, b.LogProbs); // to the bit: no kernel's sums depend on what else is in the batch
        }
    }

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
            AssertSameTokens(expected, found);
            var statistics = other.Engine.Statistics;
            if (way == "tiny pool")
                Assert.True(statistics.Preemptions > 0);
            Assert.Equal(way == "no prefix cache", statistics.PrefixHitTokens == 0);
            Assert.Equal((0, 0, 0), (statistics.Running, statistics.Waiting, statistics.BlocksInUse));
        }
    }

    [Fact]
    public void Samples_that_were_broken_off_go_on_elsewhere_as_if_they_had_never_stopped()
    {
        var sampling = new SamplingParameters
        {
            Samples = 4,
            MaxTokens = 60,
            MinTokens = 20,
            Seed = 3,
            RepetitionPenalty = 1.1,
            FrequencyPenalty = 0.2,
            TopLogProbs = 2,
            TopP = 0.95,
            BadWords =
            [
                [65, 66],
            ],
            StopStrings = ["e", "no such text"],
            StopTokenIds = [70],
        };
        GenerationRequest[] requests =
        [
            .. Enumerable
                .Range(0, 3)
                .Select(i => new GenerationRequest(
                    "r" + i,
                    TestEngine.Prompt(20 + i, i),
                    sampling with
                    {
                        Seed = (ulong)i,
                        IncludeStopString = i == 1,
                    }
                )),
        ];
        using var whole = TestEngine.WithText();
        var expected = whole.Run(requests);
        Assert.Contains(expected, c => c.FinishReason == FinishReason.Stop);
        Assert.Contains(expected, c => c.Tokens.Length > 25);

        var found = new List<Completion>();
        var left = requests;
        for (int stay = 1; left.Length > 0; stay += 6) // each time on another engine, for some steps more
        {
            using var test = TestEngine.WithText();
            var ended = new List<Completion>();
            var told = new Dictionary<(string, int), string>();
            test.Engine.Submit(
                left,
                e => told[(e.RequestId, e.SampleIndex)] = told.GetValueOrDefault((e.RequestId, e.SampleIndex)) + e.Text,
                ended.Add
            );
            for (int i = 0; i < stay; i++)
                test.Step();
            foreach (var request in left)
                test.Engine.Abort(request.Id);
            found.AddRange(ended.Where(c => c.FinishReason != FinishReason.Aborted));
            Assert.All(ended, c => Assert.EndsWith(told[(c.RequestId, c.SampleIndex)], c.Text)); // what is told is what is new
            left =
            [
                .. left.Select(r =>
                        r with
                        {
                            PartialSamples =
                            [
                                .. ended
                                    .Where(c => c.RequestId == r.Id && c.FinishReason == FinishReason.Aborted)
                                    .OrderBy(c => c.SampleIndex)
                                    .Select(c => new PartialSample(c.SampleIndex)
                                    {
                                        Tokens = c.Tokens,
                                        LogProbs = c.LogProbs,
                                        WeightVersions = c.WeightVersions,
                                        TopLogProbs = c.TopLogProbs,
                                    }),
                            ],
                        }
                    )
                    .Where(r => r.Count > 0),
            ];
        }
        found = [.. found.OrderBy(c => c.RequestId).ThenBy(c => c.SampleIndex)];
        AssertSameTokens(expected, found);
        Assert.Equal(expected.Select(c => c.Text), found.Select(c => c.Text));
        Assert.Equal(
            expected.SelectMany(c => c.TopLogProbs!.SelectMany(t => t)),
            found.SelectMany(c => c.TopLogProbs!.SelectMany(t => t))
        );
    }

    [Fact]
    public void Parts_that_fit_no_sample_are_refused_with_all_reasons()
    {
        using var test = new TestEngine();
        var request = new GenerationRequest("r", TestEngine.Prompt(5), Greedy with { Samples = 2 });
        var e = Assert.Throws<ArgumentException>(() =>
            test.Engine.Submit([request with { PartialSamples = [new(2), new(0) { Tokens = new int[40] }, new(0)] }])
        );
        foreach (
            string reason in new[]
            {
                "sample 2 is none of the 2",
                "sample 0 has 40 tokens already",
                "0 log-probs",
                "named twice",
            }
        )
            Assert.Contains(reason, e.Message);
        Assert.Contains(
            "no sample is named",
            Assert.Throws<ArgumentException>(() => test.Engine.Submit([request with { PartialSamples = [] }])).Message
        );
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
        double[][] logits = Logits(test, all);
        for (int i = 0; i < 30; i++)
            Assert.Equal(LogSoftmax(logits[20 + i], 0.7)[completion.Tokens[i]], completion.LogProbs[i], 1e-5);
    }

    [Fact]
    public void Weight_update_between_steps_marks_later_tokens_and_changes_them()
    {
        using var test = new TestEngine();
        Completion? completion = null;
        test.Engine.SetWeightVersion(3);
        test.Engine.Submit([new("r", TestEngine.Prompt(40), Greedy)], onCompletion: c => completion = c);
        for (int i = 0; i < 10; i++)
            test.Step();
        using (TorchSharp.torch.no_grad())
            test.Weights.Flat.mul_(0.5f);
        test.Engine.SetWeightVersion(4);
        test.Engine.ResetPrefixCache();
        test.Engine.RecomputeRunning();
        test.Engine.CheckInvariants();
        while (test.Step()) { }
        Assert.Equal([.. Enumerable.Repeat(3, 10), .. Enumerable.Repeat(4, 30)], completion!.WeightVersions);
        double[][] logits = Logits(test, [.. TestEngine.Prompt(40), .. completion.Tokens]);
        for (int i = 10; i < 40; i++)
            Assert.Equal(LogSoftmax(logits[39 + i], 1)[completion.Tokens[i]], completion.LogProbs[i], 1e-5);
        var again = test.Run(new GenerationRequest("fresh", TestEngine.Prompt(40), Greedy))[0];
        Assert.Equal(32, again.CachedPromptTokens); // what the sequence computed again, with the new weights
        Assert.Equal(LogSoftmax(logits[39], 1).Max(), again.LogProbs[0], 1e-5);
    }

    [Fact]
    public void Keys_of_old_weights_kept_by_a_running_sequence_are_not_found_by_others()
    {
        using var test = new TestEngine();
        test.Engine.Submit([new("old", TestEngine.Prompt(40), Greedy)]);
        test.Step();
        test.Engine.ResetPrefixCache();
        for (int i = 0; i < 20; i++)
            test.Step();
        test.Engine.Submit([new("new", TestEngine.Prompt(40), Greedy)]);
        test.Step();
        Assert.Equal(0, test.Engine.Statistics.PrefixHitTokens);
        while (test.Step()) { }
    }

    [Fact]
    public void Abort_in_the_middle_frees_blocks_and_reports_what_there_is()
    {
        using var test = new TestEngine();
        var completions = new List<Completion>();
        test.Engine.Submit(
            [new("a", TestEngine.Prompt(20), Greedy with { Samples = 3 }), new("b", TestEngine.Prompt(9), Greedy)],
            onCompletion: completions.Add
        );
        for (int i = 0; i < 5; i++)
            test.Step();
        Assert.True(test.Engine.Abort("a"));
        Assert.False(test.Engine.Abort("a"));
        test.Engine.CheckInvariants();
        Assert.Equal(3, completions.Count);
        Assert.All(completions, c => Assert.Equal((FinishReason.Aborted, 5), (c.FinishReason, c.Tokens.Length)));
        Assert.Equal(1, test.Engine.Statistics.BlocksInUse);
        while (test.Step()) { }
        Assert.Equal((FinishReason.Length, 40), (completions[3].FinishReason, completions[3].Tokens.Length));
    }

    [Fact]
    public void Callback_may_abort_a_sibling_in_the_same_step()
    {
        using var test = new TestEngine();
        var completions = new List<Completion>();
        test.Engine.Submit(
            [new("a", TestEngine.Prompt(5), Greedy with { MaxTokens = 3 }), new("b", TestEngine.Prompt(6), Greedy)],
            onCompletion: c =>
            {
                completions.Add(c);
                test.Engine.Abort("b");
            }
        );
        while (test.Step()) { }
        Assert.Equal(["a", "b"], completions.Select(c => c.RequestId));
        Assert.Equal(2, completions[1].Tokens.Length);
    }

    [Fact]
    public void Smaller_priority_runs_first()
    {
        using var test = new TestEngine(new() { MaxSequences = 1 });
        var finished = new List<string>();
        test.Engine.Submit(
            [
                new("late", TestEngine.Prompt(4), Greedy) { Priority = 5 },
                new("middle", TestEngine.Prompt(4), Greedy),
                new("first", TestEngine.Prompt(4), Greedy) { Priority = -1 },
            ],
            onCompletion: c => finished.Add(c.RequestId)
        );
        while (test.Step()) { }
        Assert.Equal(["first", "middle", "late"], finished);
    }

    [Fact]
    public void Completion_ends_at_the_context()
    {
        using var test = new TestEngine(new() { MaxContext = 30 });
        var completion = test.Run(new GenerationRequest("r", TestEngine.Prompt(25), Greedy))[0];
        Assert.Equal((FinishReason.Length, 5), (completion.FinishReason, completion.Tokens.Length));
    }

    [Fact]
    public void Refused_requests_say_everything_that_is_wrong_and_nothing_is_enqueued()
    {
        using var test = new TestEngine(new() { MaxContext = 100 }, blocks: 4);
        string Refusal(GenerationRequest bad) =>
            Assert.Throws<ArgumentException>(() => test.Engine.Submit([new("fine", [2, 3], Greedy), bad])).Message;
        Assert.Contains(
            "the prompt has 120 tokens, the context is 100",
            Refusal(new("r", TestEngine.Prompt(120), Greedy))
        );
        Assert.Contains("the KV cache has 4 blocks of 16", Refusal(new("r", TestEngine.Prompt(60), Greedy)));
        string several = Refusal(
            new(
                "r",
                [2, 61, -1],
                new()
                {
                    MaxTokens = 0,
                    Temperature = -1,
                    TopP = 0,
                    MinP = 2,
                    Samples = 0,
                    StopStrings = ["x"],
                    BadWords =
                    [
                        [],
                    ],
                }
            )
        );
        foreach (
            string problem in new[]
            {
                "token id 61",
                "MaxTokens",
                "Temperature",
                "TopP",
                "MinP",
                "Samples",
                "StopStrings",
                "BadWords",
            }
        )
            Assert.Contains(problem, several);
        Assert.Contains("another one with this id", Refusal(new("fine", [2], Greedy)));
        Assert.False(test.Engine.HasWork);
        Assert.Throws<ArgumentException>(() =>
            new TestEngine(
                new()
                {
                    BlockSize = 10,
                    MaxSequences = 8,
                    MaxBatchedTokens = 4,
                }
            )
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
    public void Logits_of_many_rows_are_made_in_parts_without_a_trace()
    {
        var config = TinyModels.Config(vocabulary: 400_000); // 41 rows fit in one part
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

    /// <summary>Logits of every position, by the training path's attention.</summary>
    internal static double[][] Logits(TestEngine test, int[] tokens)
    {
        using var scope = TorchSharp.torch.NewDisposeScope();
        using var decoder = new Decoder(test.Weights);
        var ids = TorchSharp.torch.tensor(tokens.Select(t => (long)t).ToArray());
        var hidden = decoder.Hidden(
            ids,
            TorchSharp.torch.arange(tokens.Length, dtype: TorchSharp.torch.int64),
            new PackedAttention(decoder.Config, [0, tokens.Length])
        );
        float[] all = decoder.Logits(hidden).data<float>().ToArray();
        return [.. all.Chunk(decoder.Config.VocabularySize).Select(row => row.Select(x => (double)x).ToArray())];
    }

    internal static double[] LogSoftmax(double[] logits, double temperature)
    {
        double max = logits.Max(),
            log = Math.Log(logits.Sum(x => Math.Exp((x - max) / temperature)));
        return [.. logits.Select(x => (x - max) / temperature - log)];
    }
}
