using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.Tests.Inference;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

public sealed partial class GpuEngineTests
{
    /// <summary>
    /// What an engine launches, for each size of heads and type that has kernels of its own. Compiling needs no such GPU.
    /// </summary>
    [Theory, InlineData("sm_80"), InlineData("sm_89"), InlineData("sm_90a"), InlineData("sm_100a")]
    public void Every_kernel_compiles_for(string architecture)
    {
        var gpu = Gpu.Require();
        Assert.SkipWhen(CudaLibraries.Emulated, "needs NVIDIA's compiler");
        foreach (var type in new[] { ScalarType.BFloat16, ScalarType.Float16, ScalarType.Float32 })
        foreach (int dimension in new[] { 64, 128 })
        {
            using var cpu = TinyModels.Random(Config(ModelFamily.Qwen3, heads: 6, dimension: dimension));
            using var model = new Model(cpu, type);
            model.Run(Mixed(Greedy with { MaxTokens = 2 }));
        }

        var loaded = gpu.Kernels.Loaded.ToList();
        Assert.Contains(loaded, k => k.File == "PagedDecode" && k.Definitions.Contains("HEAD_DIM=128"));
        Assert.Contains(loaded, k => k.File == "SmallLinear");
        foreach (var (file, definitions) in loaded)
            Assert.NotEmpty(KernelLibrary.Compile(file, architecture, definitions));
    }

    public static readonly TheoryData<int, bool> SharedPrompts = new()
    {
        { 16, true },
        { 17, true },
        { 17, false },
        { 33, true },
        { 49, false },
        { 50, true },
    };

    /// <summary>
    /// All but the last token of a prompt of 16 k + 1 tokens is shared by its samples and computed by the first of them
    /// in the same step. So the last token's attention reads keys that the kernel before it writes.
    /// </summary>
    [Theory, MemberData(nameof(SharedPrompts))]
    public void Samples_that_share_a_prompt_in_one_step_are_equal_bit_for_bit(int length, bool graphs)
    {
        Gpu.Require();
        using var cpu = TinyModels.Random(Config(ModelFamily.Qwen2, heads: 6, dimension: 64), scale: 0.25);
        using var model = new Model(cpu, ScalarType.BFloat16, Options with { CudaGraphs = graphs });
        var sampling = Greedy with { MaxTokens = 6, Samples = 8 };
        GenerationRequest[] requests =
        [
            .. Enumerable
                .Range(0, 3)
                .Select(i => new GenerationRequest("r" + i, TestEngine.Prompt(length, i), sampling)),
        ];
        foreach (var samples in model.Run(requests).GroupBy(c => c.RequestId))
        {
            var first = samples.First();
            foreach (var other in samples)
            {
                Assert.Equal(first.Tokens[0], other.Tokens[0]);
                Assert.Equal(first.LogProbs[0], other.LogProbs[0]);
            }
        }
    }

    [Fact]
    public void A_seed_gives_the_same_tokens_alone_and_in_a_large_batch()
    {
        Gpu.Require();
        using var cpu = TinyModels.Random(Config(vocabulary: 320), scale: 0.3);
        int count = Gpu.Small ? 48 : 256;
        using var together = new Model(
            cpu,
            ScalarType.Float32,
            Options with
            {
                MaxSequences = 256,
                KvCacheBytes = 64 << 20,
            }
        );
        var requests = Mixed(
                new()
                {
                    MaxTokens = 20,
                    Temperature = 1,
                    TopP = 0.95,
                    IgnoreEos = true,
                },
                count
            )
            .Select(r => r with { Sampling = r.Sampling with { Samples = 1 } })
            .ToArray();
        var batch = together.Run(requests);
        foreach (int i in Enumerable.Range(0, count).Where(i => i % (count / 8) == 0))
            AssertSame([batch[i]], together.Run(requests[i]), 1e-3);
    }

    [Fact]
    public void Samples_that_were_broken_off_go_on_as_if_they_had_never_stopped()
    {
        Gpu.Require();
        using var cpu = TinyModels.Random(Config(), scale: 0.3);
        using var model = new Model(cpu, ScalarType.Float32);
        var requests = Mixed(
            new()
            {
                MaxTokens = 30,
                Temperature = 1,
                TopP = 0.95,
                RepetitionPenalty = 1.2,
                FrequencyPenalty = 0.3,
                TopLogProbs = 1,
                IgnoreEos = true,
            },
            6
        );
        var expected = model.Run(requests);
        var ended = new List<Completion>();
        model.Engine.Submit(requests, onCompletion: ended.Add);
        for (int i = 0; i < 12; i++)
            model.Engine.Step();
        model.Engine.Quiesce();
        foreach (var request in requests)
            model.Engine.Abort(request.Id);
        Assert.All(ended, c => Assert.InRange(c.Tokens.Length, 1, 29));
        AssertSame(
            expected,
            model.Run([
                .. requests.Select(r =>
                    r with
                    {
                        PartialSamples =
                        [
                            .. ended
                                .Where(c => c.RequestId == r.Id)
                                .Select(c => new PartialSample(c.SampleIndex)
                                {
                                    Tokens = c.Tokens,
                                    LogProbs = c.LogProbs,
                                    WeightVersions = c.WeightVersions,
                                    TopLogProbs = c.TopLogProbs,
                                }),
                        ],
                    }
                ),
            ]),
            1e-3
        );
    }

    [Fact]
    public void Weights_written_between_steps_mark_the_tokens_that_come_from_them()
    {
        var gpu = Gpu.Require();
        using var cpu = TinyModels.Random(Config());
        using var model = new Model(cpu, ScalarType.Float32);
        Completion? completion = null;
        model.Engine.SetWeightVersion(3);
        model.Engine.Submit([new("r", TestEngine.Prompt(40), Greedy)], onCompletion: c => completion = c);
        for (int i = 0; i < 11; i++)
            model.Engine.Step();
        model.Engine.Quiesce(); // 11 launched, all taken
        gpu.Write<float>(
            model.Engine.Weights.Pointer,
            [
                .. gpu.Read<float>(model.Engine.Weights.Pointer, (int)model.Engine.Weights.Layout.Length)
                    .Select(w => w * 0.5f),
            ]
        );
        model.Engine.SetWeightVersion(4);
        model.Engine.ResetPrefixCache();
        model.Engine.RecomputeRunning();
        while (model.Engine.Step())
            model.Engine.CheckInvariants();
        Assert.Equal([.. Enumerable.Repeat(3, 11), .. Enumerable.Repeat(4, 29)], completion!.WeightVersions);
        using (no_grad())
            cpu.Flat.mul_(0.5f);
        using var onCpu = new Model(cpu, null);
        AssertSame(
            onCpu.Run(
                new GenerationRequest(
                    "r",
                    [.. TestEngine.Prompt(40), .. completion.Tokens[..11]],
                    Greedy with
                    {
                        MaxTokens = 29,
                    }
                )
            ),
            [completion with { Tokens = completion.Tokens[11..], LogProbs = completion.LogProbs[11..] }],
            1e-3
        );
    }

    [Fact]
    public void Logits_that_are_not_finite_name_the_request()
    {
        var gpu = Gpu.Require();
        using var cpu = TinyModels.Random(Config());
        using var model = new Model(cpu, ScalarType.Float32);
        gpu.Fill(model.Engine.Weights.Pointer, 0xff, model.Engine.Weights.ByteLength);
        model.Engine.Submit([new("culprit", TestEngine.Prompt(5), Greedy)]);
        var error = Assert.Throws<ArithmeticException>(() =>
        {
            while (model.Engine.Step()) { }
        });
        Assert.Contains("culprit", error.Message);
    }

    /// <summary>
    /// Requests of every kind on a pool far too small; each ends, no block is left, and a sample of results equals
    /// the CPU's.
    /// </summary>
    [Fact]
    public void Random_requests_on_a_tiny_pool_all_end_and_leave_nothing()
    {
        Gpu.Require();
        int requests = Gpu.Small ? 150 : 20_000;
        var config = Config() with { Layers = 1 };
        using var cpu = TinyModels.Random(config);
        using var model = new Model(
            cpu,
            ScalarType.Float32,
            new()
            {
                MaxSequences = 12,
                MaxBatchedTokens = 48,
                KvCacheBytes = 14 * new KvLayout(config, ScalarType.Float32, 16).BytesPerBlock,
            }
        );
        using var onCpu = new Model(cpu, null);
        var traffic = new RandomTraffic(model.Engine, requests);
        traffic.Run();
        var statistics = model.Engine.Statistics;
        Assert.Equal((0, 0, 0), (statistics.Running, statistics.Waiting, statistics.BlocksInUse));
        Assert.True(
            statistics.Preemptions > requests / 20
                && statistics.PrefixHitTokens > requests / 2
                && traffic.Aborted.Count > requests / 40,
            statistics.ToString()
        );
        Assert.Equal(
            traffic.Submitted.Values.Sum(r => r.Sampling.Samples),
            traffic.Completions.DistinctBy(c => (c.RequestId, c.SampleIndex)).Count()
        );
        long growth = Environment.WorkingSet - traffic.EarlyMemory;
        Assert.True(growth < 300 << 20, $"memory grew by {growth >> 20} MiB");
        foreach (
            var request in traffic
                .Submitted.Values.Where(r => !traffic.Aborted.Contains(r.Id))
                .Where((_, i) => i % (requests / 30) == 0)
        )
            AssertSame(
                onCpu.Run(request),
                [.. traffic.Completions.Where(c => c.RequestId == request.Id).OrderBy(c => c.SampleIndex)],
                1e-3
            );
    }

    /// <summary>Random requests to an engine, some of them aborted, until all have ended.</summary>
    private sealed class RandomTraffic(Engine engine, int requests)
    {
        private readonly Random random = new(11);

        public Dictionary<string, GenerationRequest> Submitted { get; } = [];
        public HashSet<string> Aborted { get; } = [];
        public List<Completion> Completions { get; } = [];

        /// <summary>The process's memory after a quarter of the requests.</summary>
        public long EarlyMemory { get; private set; }

        public void Run()
        {
            while (Submitted.Count < requests || engine.HasWork)
            {
                if (Submitted.Count < requests && engine.Statistics.Waiting < 20)
                    SubmitSome();
                if (random.Next(12) == 0)
                    AbortOne();
                engine.Step();
                engine.CheckInvariants();
                if (EarlyMemory == 0 && Submitted.Count > requests / 4)
                    EarlyMemory = Environment.WorkingSet;
            }
        }

        private void SubmitSome()
        {
            GenerationRequest[] batch =
            [
                .. Enumerable
                    .Range(0, 1 + random.Next(8))
                    .Select(i => EngineSoakTests.Random(random, "r" + (Submitted.Count + i))),
            ];
            foreach (var request in batch)
                Submitted.Add(request.Id, request);
            engine.Submit(batch, onCompletion: Completions.Add);
        }

        private void AbortOne()
        {
            string id = "r" + Math.Max(0, Submitted.Count - 1 - random.Next(25));
            if (engine.Abort(id))
                Aborted.Add(id);
        }
    }
}
