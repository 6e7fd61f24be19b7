using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Training.Planning;
using SimpleR1.Training.Policy;
using Xunit;

namespace SimpleR1.Tests.Training;

/// <summary>What fits a GPU, and what to change where something does not.</summary>
public sealed class TrainerMemoryTests
{
    private static readonly TrainerDevice Gpu = new("cuda:0", ElementType.BF16);
    private static readonly WeightLayout Layout = new(
        TinyModels.Config(ModelFamily.Qwen2, 32_000) with
        {
            HiddenSize = 512,
            IntermediateSize = 2048,
            Layers = 8,
        }
    );

    private static MicroBatchOptions Options(int? tokens = null, bool checkpointing = false, int longest = 1024) =>
        new()
        {
            Tokens = tokens,
            GradientCheckpointing = checkpointing,
            CpuTokens = 8192,
            LongestSequence = longest,
        };

    private static long State => Layout.Length * 16;

    [Fact]
    public void Micro_batch_is_the_largest_power_of_two_that_fits()
    {
        Assert.Equal(32_768, TrainerMemory.Plan(Layout, Gpu, Options(), 200L << 30).TokensPerMicroBatch);
        long left = State + (2L << 30);
        var plan = TrainerMemory.Plan(Layout, Gpu, Options(), left);
        Assert.InRange(plan.TokensPerMicroBatch, 1024, 16_384);
        Assert.InRange(plan.State + plan.Activations, 0, left);
        int twice = 2 * plan.TokensPerMicroBatch;
        Assert.Throws<ArgumentException>(() => TrainerMemory.Plan(Layout, Gpu, Options(twice), left));
        var checkpointing = TrainerMemory.Plan(Layout, Gpu, Options(twice, checkpointing: true), 200L << 30);
        Assert.True(
            checkpointing.Activations < TrainerMemory.Plan(Layout, Gpu, Options(twice), 200L << 30).Activations
        );
    }

    [Theory]
    [InlineData(16_384, false, "lower training.tokens_per_micro_batch or set training.gradient_checkpointing")]
    [InlineData(16_384, true, "lower training.tokens_per_micro_batch")]
    [InlineData(null, false, "set training.gradient_checkpointing, or allow shorter sequences")]
    public void Micro_batch_that_does_not_fit_is_refused_with_what_to_change(
        int? tokens,
        bool checkpointing,
        string advice
    )
    {
        var options = Options(tokens, checkpointing);
        var error = Assert.Throws<ArgumentException>(() =>
            TrainerMemory.Plan(Layout, Gpu, options, State + (100L << 20))
        );
        Assert.Contains("are left for them; " + advice, error.Message);
    }

    [Fact]
    public void Model_whose_state_does_not_fit_is_refused()
    {
        var error = Assert.Throws<ArgumentException>(() => TrainerMemory.Plan(Layout, Gpu, Options(), State - 1));
        Assert.Contains("use a smaller model or a GPU with more memory", error.Message);
    }

    [Fact]
    public void Cpu_has_its_own_size_and_the_reference_counts()
    {
        Assert.Equal(8192, TrainerMemory.Plan(Layout, TrainerDevice.Cpu, Options(), 0).TokensPerMicroBatch);
        Assert.Equal(
            9000,
            TrainerMemory.Plan(Layout, TrainerDevice.Cpu, Options(longest: 9000), 0).TokensPerMicroBatch
        );
        var plan = TrainerMemory.Plan(Layout, Gpu, Options() with { KeepsReference = true }, 200L << 30);
        Assert.Equal(2 * Layout.Length, plan.Reference);
        Assert.Contains("for the frozen reference", plan.Describe());
    }
}
