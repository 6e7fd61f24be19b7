using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Policy;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>The policy's updates on a GPU, next to the CPU's.</summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class GpuTrainingTests
{
    private const double Temperature = 0.8;
    private static readonly int[] Lengths = [17, 5, 30, 2, 23];

    /// <summary>Sizes that the matrix unit's attention takes, where a head has 64 numbers.</summary>
    private static ModelConfig Config(string family, bool tied, int headDimension) =>
        TinyModels.Config(ModelFamily.Named(family), 64, tied) with
        {
            HiddenSize = 32,
            IntermediateSize = 48,
            HeadDimension = headDimension,
        };

    private static TrainingSequence[] Sequences()
    {
        var random = new Random(3);
        return
        [
            .. Lengths.Select(n => new TrainingSequence(
                [.. Enumerable.Range(0, n).Select(_ => random.Next(64))],
                Math.Max(1, n / 3)
            )),
        ];
    }

    /// <summary>Three groups, whose samples begin with the same 70, 5 or 9 tokens.</summary>
    private static TrainingSequence[] Groups(bool shared)
    {
        var random = new Random(4);
        int[] Ids(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(64))];

        var sequences = new List<TrainingSequence>();
        int group = 0;
        foreach (var (prompt, answers) in new[] { (70, new[] { 9, 1, 30, 66 }), (5, [3, 20, 8]), (9, [12]) })
        {
            int[] begin = Ids(prompt);
            foreach (int answer in answers)
                sequences.Add(new([.. begin, .. Ids(answer)], prompt) { Group = shared ? group : null });
            group++;
        }
        return [.. sequences];
    }

    /// <summary>A policy with its memory, on one device.</summary>
    private sealed class Trained : IDisposable
    {
        private readonly DeviceMemory? memory;
        private readonly DevicePool? pool;
        private readonly FlatWeights weights;
        private int step;

        public Trained(FlatWeights weights, int tokens = 64, bool checkpointing = false, double clip = 0)
        {
            this.weights = weights;
            var options = new PolicyOptions(tokens, checkpointing);
            if (weights.Device is { } gpu)
            {
                options = options with { Head = HeadMemory.OfBytes(30 * 64 * sizeof(float)) }; // several parts
                memory = gpu.Allocate(8 << 20, "a test");
                gpu.Fill(memory.Pointer, 0xFF, memory.Bytes); // NaN: nothing may be read before it is written
                pool = new(memory, "");
            }
            var section = new SimpleR1.Training.Recipes.Sections.OptimizerSection
            {
                LearningRate = 1e-3,
                MaxGradientNorm = clip,
            };
            Policy = new(new(weights), new(weights, section), options, pool);
        }

        public TrainingSequence[] Batch { get; init; } = Sequences();
        public PolicyModel Policy { get; }
        public DevicePool Pool => pool!;

        public UpdateStatistics Update(double learningRate = 0, float scale = 1) =>
            Policy.Update(
                Batch,
                Temperature,
                step++,
                learningRate,
                (range, logProbs) => (Loss(range, logProbs, scale), [])
            );

        private Tensor Loss(Range range, Tensor logProbs, float scale)
        {
            float[] weight =
            [
                .. Batch
                    .Take(range)
                    .SelectMany(
                        (s, i) =>
                            s.Positions.Select(p => scale * ((p * 7 + (i + range.Start.Value) * 5) % 11 - 5) / 100f)
                    ),
            ];
            return -(logProbs.exp() * tensor(weight)).sum();
        }

        public float[][] LogProbs() => Policy.LogProbs(Batch, Temperature);

        public float[] Gradient(WeightSlot slot) => Numbers(Policy.Optimizer.Gradient, slot);

        public float[] Weight(WeightSlot slot)
        {
            var master = Policy.Optimizer.Master.OnCpu();
            try
            {
                return Numbers(master.Flat, slot);
            }
            finally
            {
                if (master != weights)
                    master.Dispose();
            }
        }

        private float[] Numbers(Tensor flat, WeightSlot slot)
        {
            using var scope = NewDisposeScope();
            var host = CudaDevice.Of(flat) is { } gpu ? gpu.ToHost(flat) : flat;
            return host.narrow(0, slot.Offset, slot.Length).data<float>().ToArray();
        }

        public void Dispose()
        {
            Policy.Dispose();
            pool?.Dispose();
            memory?.Dispose();
            weights.Dispose();
        }
    }

    [Theory]
    [InlineData("llama", false, 16, false)]
    [InlineData("qwen2", true, 16, true)]
    [InlineData("qwen3", true, 16, false)]
    public void Ten_updates_in_f32_equal_the_CPUs(string family, bool tied, int headDimension, bool checkpointing)
    {
        var gpu = Gpu.Require();
        using var random = TinyModels.Random(Config(family, tied, headDimension));
        var weights = TinyModels.Random(Config(family, tied, headDimension));
        using Trained cpu = new(weights, clip: 0.5),
            onGpu = new(random.CopyTo(gpu, ScalarType.Float32), 40, checkpointing, clip: 0.5);

        foreach (var (expected, found) in cpu.LogProbs().Zip(onGpu.LogProbs()))
            Gpu.AssertClose(expected, found, 1e-5);
        for (int step = 0; step < 10; step++)
        {
            UpdateStatistics expected = cpu.Update(1e-3),
                found = onGpu.Update(1e-3);
            Assert.Equal(expected.Loss, found.Loss, 1e-4 * Math.Abs(expected.Loss) + 1e-6);
            Assert.Equal(expected.Entropy, found.Entropy, 1e-4);
            Assert.Equal(expected.GradientNorm, found.GradientNorm, 1e-4 * expected.GradientNorm);
            if (step == 0)
                foreach (var slot in weights.Layout.Slots)
                    Gpu.AssertClose(cpu.Gradient(slot), onGpu.Gradient(slot), 1e-4);
        }
        foreach (var slot in weights.Layout.Slots)
            Gpu.AssertClose(cpu.Weight(slot), onGpu.Weight(slot), 1e-4);
        Assert.Equal(0, onGpu.Pool.UsedBytes);
    }

    [Theory]
    [InlineData("llama", false, 64)]
    [InlineData("qwen2", true, 64)]
    [InlineData("qwen3", true, 128)]
    [InlineData("qwen2", true, 16)]
    public void Gradients_in_bf16_point_where_those_in_f32_do(string family, bool tied, int headDimension)
    {
        var gpu = Gpu.Require();
        var weights = TinyModels.Random(Config(family, tied, headDimension));
        foreach (var slot in weights.Layout.Slots)
            weights[slot].copy_(weights[slot].bfloat16().@float());
        using Trained onGpu = new(weights.CopyTo(gpu, ScalarType.BFloat16)),
            again = new(weights.CopyTo(gpu, ScalarType.BFloat16)),
            cpu = new(weights);

        cpu.Update();
        onGpu.Update();
        again.Update();
        foreach (var slot in weights.Layout.Slots)
        {
            AssertSameDirection(slot, cpu, onGpu);
            Assert.Equal(onGpu.Gradient(slot), again.Gradient(slot)); // the same bits
        }
    }

    [Theory]
    [InlineData("qwen2", true, 64, 400)]
    [InlineData("qwen3", true, 128, 120)] // the first group is cut
    public void Shared_prompts_in_bf16_give_the_gradients_of_a_prompt_each(
        string family,
        bool tied,
        int headDimension,
        int tokens
    )
    {
        var gpu = Gpu.Require();
        using var weights = TinyModels.Random(Config(family, tied, headDimension));
        using Trained apart = new(weights.CopyTo(gpu, ScalarType.BFloat16), tokens) { Batch = Groups(false) },
            shared = new(weights.CopyTo(gpu, ScalarType.BFloat16), tokens) { Batch = Groups(true) };

        UpdateStatistics expected = apart.Update(),
            found = shared.Update();
        Assert.Equal(expected.Loss, found.Loss, 1e-3 * Math.Abs(expected.Loss) + 1e-5);
        Assert.Equal(expected.Tokens, found.TokensAsked);
        Assert.InRange(found.Tokens, 200, expected.Tokens - 150);
        foreach (var slot in weights.Layout.Slots)
            AssertSameDirection(slot, apart, shared);
    }

    private static void AssertSameDirection(WeightSlot slot, Trained expected, Trained found)
    {
        float[] x = expected.Gradient(slot),
            y = found.Gradient(slot);
        double cosine = Dot(x, y) / Math.Sqrt(Dot(x, x) * Dot(y, y));
        Assert.True(cosine >= 0.999, $"{slot.Name}: cosine {cosine:0.00000}");
    }

    private static double Dot(float[] x, float[] y) => x.Zip(y).Sum(p => (double)p.First * p.Second);

    [Fact]
    public void Weights_in_bf16_change_as_f32_weights_do()
    {
        var gpu = Gpu.Require();
        var config = Config("qwen3", true, 16);
        using var random = TinyModels.Random(config);
        using var onGpu = new Trained(random.CopyTo(gpu, ScalarType.BFloat16));
        onGpu.Policy.Optimizer.Master.CopyFrom(random); // with what bf16 does not hold
        var before = random.Layout.Slots.ToDictionary(slot => slot, onGpu.Weight);
        foreach (var slot in random.Layout.Slots)
            Assert.Equal(random[slot].data<float>().ToArray(), before[slot]);

        onGpu.Update(1e-6); // a thousandth of what bf16 can hold of most weights
        using var expected = TinyModels.Random(config);
        using var optimizer = new Optimizer(expected, new() { MaxGradientNorm = 0 });
        using (var scope = NewDisposeScope())
            optimizer.Gradient.copy_(gpu.ToHost(onGpu.Policy.Optimizer.Gradient));
        optimizer.Step(optimizer.GradientNorm(), 1e-6);
        foreach (var slot in random.Layout.Slots)
        {
            float[] start = before[slot],
                wanted = expected[slot].data<float>().ToArray(),
                found = onGpu.Weight(slot);
            double worst = wanted.Zip(found).Max(p => Math.Abs((double)p.First - p.Second));
            Assert.True(worst < 1.5e-7, $"{slot.Name}: {worst:E2}");
            Assert.NotEqual(start, found);
        }
    }

    [Fact]
    public void Gradient_that_is_not_finite_leaves_the_weights()
    {
        var gpu = Gpu.Require();
        var config = Config("qwen3", true, 16);
        using var random = TinyModels.Random(config);
        using var trained = new Trained(random.CopyTo(gpu, ScalarType.BFloat16));
        var before = random.Layout.Slots.Select(trained.Weight).ToList();
        Assert.Contains(
            "the loss is",
            Assert.Throws<NonFiniteException>(() => trained.Update(1e-3, float.NaN)).Message
        );
        Assert.Equal(before, random.Layout.Slots.Select(trained.Weight));
        Assert.Equal(0, trained.Pool.UsedBytes);
    }

    /// <summary>Parts before it have left a gradient of the head by then.</summary>
    [Fact]
    public void Loss_that_is_not_finite_in_a_later_part_leaves_no_memory_taken()
    {
        var gpu = Gpu.Require();
        using var random = TinyModels.Random(Config("llama", true, 16));
        using var trained = new Trained(random.CopyTo(gpu, ScalarType.Float32));
        int parts = 0;
        Assert.Throws<NonFiniteException>(() =>
            trained.Policy.Update(
                Sequences(),
                1,
                0,
                0,
                (_, logProbs) => (logProbs.sum() * (parts++ > 0 ? float.NaN : 1), [])
            )
        );
        Assert.Equal(2, parts);
        Assert.Equal(0, trained.Pool.UsedBytes);
    }

    [Fact]
    public void Batch_that_is_too_large_says_what_to_lower()
    {
        var gpu = Gpu.Require();
        using var random = TinyModels.Random(Config("llama", true, 16));
        using var weights = random.CopyTo(gpu, ScalarType.Float32);
        using var pool = new DevicePool(gpu, 1 << 12, "lower training.tokens_per_micro_batch");
        using var policy = new PolicyModel(new(weights), new(weights, new()), new(64) { Head = HeadMemory.Gpu }, pool);
        var error = Assert.Throws<CudaOutOfMemoryException>(() =>
            policy.Update(Sequences(), 1, 0, 0, (_, logProbs) => (logProbs.sum(), []))
        );
        Assert.Contains("training.tokens_per_micro_batch", error.Message);
        Assert.Equal(0, pool.UsedBytes);
    }

    [Theory]
    [InlineData("llama", false)]
    [InlineData("qwen3", true)]
    public void Memory_is_as_predicted(string family, bool checkpointing)
    {
        var gpu = Gpu.Require();
        Assert.SkipWhen(Gpu.Small, "needs sizes of real models, which take too long here");
        var config = Config(family, false, 64) with
        {
            HiddenSize = 512,
            IntermediateSize = 2048,
            Layers = 8,
            Heads = 8,
            MaxPositions = 512,
        };
        using var weights = new FlatWeights(new WeightLayout(config), ScalarType.BFloat16, gpu);
        using var pool = new DevicePool(gpu, 4L << 30, "");
        var head = HeadMemory.OfBytes(64 << 10);
        using var policy = new PolicyModel(
            new(weights),
            new(weights, new()),
            new(8192, checkpointing) { Head = head },
            pool
        );
        TrainingSequence[] sequences = [.. Enumerable.Range(0, 16).Select(_ => new TrainingSequence(new int[513], 20))];
        policy.Update(sequences, 1, 0, 0, (_, logProbs) => (logProbs.sum(), []));

        var planned = new ActivationMemory
        {
            Config = config,
            ElementBytes = 2,
            Head = head,
            Checkpointing = checkpointing,
        };
        long peak = planned.Peak(16 * 512, 16 * 493);
        Assert.InRange(pool.PeakBytes, 0.75 * peak, peak); // 64 MiB of the prediction are kept free
    }
}
