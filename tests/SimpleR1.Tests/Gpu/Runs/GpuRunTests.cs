using SimpleR1.Tests.Cli;
using SimpleR1.Training;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Files;
using SimpleR1.Training.Supervised;
using Xunit;

namespace SimpleR1.Tests.Gpu.Runs;

/// <summary>Recipes whose trainer is on a GPU: chosen, planned, run, resumed.</summary>
[Collection("GPU"), Trait("Category", "Gpu"), Trait("Category", "GpuProcesses")]
public sealed class GpuRunTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-gpu-run-").FullName;
    private readonly List<string> log = [];

    public GpuRunTests()
    {
        Gpu.Require();
        NcclTests.Set("EMULATED_ONE_GPU", "1");
    }

    public void Dispose()
    {
        NcclTests.Set("EMULATED_ONE_GPU", null);
        Directory.Delete(folder, recursive: true);
    }

    private RunDevices? Choose(
        TrainRecipe recipe,
        out CheckedRecipe<TrainRecipe> checking,
        bool evaluatesOnly = false
    ) =>
        RunDevices.Choose(
            checking = CheckedRecipe<TrainRecipe>.Of(recipe),
            Gpu.TinyConfig,
            startsWorkers: true,
            new(folder, ExistingRun.Refuse, new(_ => { }, _ => { }, log.Add)) { EvaluatesOnly = evaluatesOnly }
        );

    private static TrainRecipe Recipe(WorkersSection workers, string device = "auto", TrainedType? type = null) =>
        new()
        {
            Name = "a",
            Model = new() { Path = "model" },
            Data = new() { Train = new() },
            Rewards = [new() { Name = "accuracy" }],
            Workers = workers,
            Training = new() { Device = device, Type = type },
        };

    [Fact]
    public void Auto_takes_the_gpu_for_trainer_and_workers_who_then_share_its_memory()
    {
        var devices = Choose(Recipe(new()), out _)!;
        Assert.Equal(("cuda:0", "bf16"), (devices.Trainer.Name, devices.Trainer.Type.Name));
        Assert.Equal(("cuda:0", 1, "bf16"), (devices.Workers.Single(), devices.WorkerCount, devices.WorkerType.Name));
        Assert.True(devices.AreColocated);

        // What a recipe names
        var f32 = Choose(Recipe(new() { Count = 2 }, type: TrainedType.F32), out _)!;
        Assert.Equal((2, "f32", true), (f32.WorkersOnTrainer, f32.WorkerType.Name, f32.AreColocated));
        var onCpu = Choose(Recipe(new(), "cpu"), out _)!;
        Assert.Equal(("cpu", "f32", "cpu"), (onCpu.Trainer.Name, onCpu.Trainer.Type.Name, onCpu.Workers.Single()));
        Assert.False(Choose(Recipe(new() { Placement = WorkerPlacement.Separate }), out _)!.AreColocated);
        Assert.False(Choose(Recipe(new() { Overlap = true }), out _)!.AreColocated);
        Assert.False(Choose(Recipe(new() { Device = "cpu" }), out _)!.AreColocated);

        // Who only evaluates needs no gradient on a GPU
        var evaluation = Choose(Recipe(new()), out _, evaluatesOnly: true)!;
        Assert.Equal(("cpu", "cuda:0"), (evaluation.Trainer.Name, evaluation.Workers.Single()));
        Assert.Empty(log);
    }

    [Fact]
    public void Devices_that_cannot_be_are_problems_of_their_keys()
    {
        var workers = new WorkersSection { Placement = WorkerPlacement.Colocated };
        Assert.Null(Choose(Recipe(workers, "cpu"), out var checking));
        Assert.Contains("needs a worker on the trainer's GPU", checking.ToException().Message);
        Assert.Null(Choose(Recipe(new(), "cuda:7"), out checking));
        Assert.Contains("training.device", checking.ToException().Message);
        Assert.Null(Choose(Recipe(new(), "cpu", TrainedType.BF16), out checking));
        Assert.Contains("a CPU trains in f32", checking.ToException().Message);
    }

    [Fact]
    public void Model_of_odd_sizes_is_trained_on_the_cpu_unless_a_gpu_was_asked_for()
    {
        var odd = Gpu.TinyConfig with { IntermediateSize = 44 };
        Assert.Equal(TrainerDevice.Cpu, TrainerDevice.Choose("auto", null, odd, log.Add));
        Assert.Contains("intermediate_size is 44", log.Single());
        var refused = Assert.Throws<ArgumentException>(() => TrainerDevice.Choose("cuda", null, odd, log.Add));
        Assert.Contains("device: cpu", refused.Message);
    }

    [Fact]
    public void Gpu_that_others_use_is_left_to_them_unless_it_was_asked_for()
    {
        var gpu = Gpu.Require();
        using var held = gpu.Allocate(gpu.FreeMemory().Total / 100 * 60, "others' memory");
        Assert.Equal(TrainerDevice.Cpu, TrainerDevice.Choose("auto", null, Gpu.TinyConfig, log.Add));
        Assert.Contains("others use more than half of its memory", log.Single());
        Assert.Equal("cuda:0", TrainerDevice.Choose("cuda", null, Gpu.TinyConfig, log.Add).Name);
    }

    /// <summary>With a frozen reference and two updates a step, in the memory that trainer and worker share.</summary>
    [Fact]
    public async Task Run_that_was_resumed_is_bit_for_bit_the_run_that_was_not()
    {
        Assert.Contains("trainer on cuda:0, bf16", await TrainAsync("whole", 2));
        await TrainAsync("parts", 1);
        Assert.Contains("resumed after step 1", await TrainAsync("parts", 2, "--resume"));
        Assert.Equal(TrainRun.Rows(In("whole", "metrics.jsonl")), TrainRun.Rows(In("parts", "metrics.jsonl")));
        foreach (string file in new[] { "model.safetensors", "optimizer.safetensors" })
            Assert.Equal(
                File.ReadAllBytes(In("whole", "checkpoints", "step-000002", file)),
                File.ReadAllBytes(In("parts", "checkpoints", "step-000002", file))
            );
    }

    /// <summary>They hold f32, the trainer bf16: what they sample differs by rounding.</summary>
    [Fact]
    public async Task Workers_on_a_cpu_get_the_weights_of_a_trainer_on_a_gpu()
    {
        await TrainAsync("mixed", 1, TrainRun.Set("workers.device=cpu", "algorithm.kl_coefficient=0"));
        var step = JsonLines.Read(In("mixed", "metrics.jsonl")).Last(row => row["loss"] is not null);
        Assert.InRange((double)step["engine_difference"]!, 1e-6, 0.05);
    }

    private string In(params string[] path) => Path.Combine([folder, .. path]);

    private async Task<string> TrainAsync(string name, int steps, params string[] more)
    {
        string[] small = TrainRun.Set(
            "data.evaluation=null",
            "rollout.prompts_per_step=2",
            "rollout.max_new_tokens=4",
            "optimizer.schedule=constant",
            "training.evaluate_every=0",
            $"training.steps={steps}",
            "training.tokens_per_micro_batch=auto",
            "workers.max_sequences=8",
            "workers.max_batched_tokens=64"
        );
        var (code, output, errors) = await ProgramRun.RunAsync(TrainRun.Command(folder, name, [.. small, .. more]));
        Assert.True(code == 0, output + errors);
        return output;
    }

    [Theory]
    [InlineData(TrainedType.F32, 1e-4)]
    [InlineData(TrainedType.BF16, 1e-2)]
    public void Training_on_text_has_the_losses_of_a_cpu(TrainedType type, double tolerance)
    {
        double[] expected = Losses("cpu", null);
        double[] found = Losses("cuda", type);
        foreach (var (a, b) in expected.Zip(found))
            Assert.Equal(a, b, tolerance);
        Assert.True(File.Exists(In("model-cuda", "model.safetensors")));
    }

    private double[] Losses(string device, TrainedType? type)
    {
        var recipe = RecipeFile.Parse<SftRecipe>(
            $$$"""
            name: {{{device}}}
            model:
              shape:
                {tokenizer: {{{SharedData.RepositoryRoot}}}/recipes/tiny-base, hidden_size: 32, heads: 2, key_value_heads: 1,
                 layers: 1, intermediate_size: 48}
            data:
              train: {generator: arithmetic-corpus, count: 40}
              evaluation: {generator: arithmetic-corpus, count: 45, skip: 40}
            optimizer: {learning_rate: 1e-3, warmup_steps: 1}
            training: {steps: 2, tokens_per_batch: 256, sequence_length: 128, device: {{{device}}}}
            output: {{{folder}}}/model-{{{device}}}
            """,
            "sft.yaml"
        );
        var losses = new List<double>();
        recipe = recipe with { Training = recipe.Training with { Type = type } };
        var outcome = Sft.Run(recipe, new(folder, ExistingRun.Refuse, s => losses.Add(s.Loss), log.Add), default);
        return [.. losses, outcome.Loss!.Value];
    }
}
