using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Planning;

/// <summary>Memory of the trainer's device in a run of reinforcement learning, planned before anything is loaded.</summary>
/// <param name="Devices">Where the run computes.</param>
/// <param name="PoolBytes">Of the pool that is the activations' and, where workers share it, their KV caches'.</param>
internal sealed record RunMemory(RunDevices Devices, TrainerMemory Trainer, long PoolBytes)
{
    private const int CpuTokens = 8192;

    /// <param name="context">Longest prompt and completion together, in tokens.</param>
    /// <exception cref="ArgumentException">The device is too small. The message says what to change.</exception>
    public static RunMemory Plan(TrainRecipe recipe, RunDevices devices, ModelConfig config, int context)
    {
        // What the trainer leaves to workers on its GPU
        var layout = new WeightLayout(config);
        var engine = recipe.Workers.ToEngineOptions(context).For(gpu: true);
        long free = TrainerMemory.FreeOn(devices.Trainer);
        if (devices.AreColocated)
            free -= devices.WorkersOnTrainer * BesideCache(layout, engine, devices);
        else if (devices.WorkersOnTrainer > 0)
            free /= 2;

        // What the trainer takes
        var training = recipe.Training;
        var options = new MicroBatchOptions
        {
            Tokens = training.TokensPerMicroBatch,
            GradientCheckpointing = training.GradientCheckpointing,
            CpuTokens = CpuTokens,
            LongestSequence = context,
            KeepsReference = recipe.Algorithm.KlCoefficient > 0,
        };
        var trainer = TrainerMemory.Plan(layout, devices.Trainer, options, free);
        if (!devices.AreColocated)
            return new(devices, trainer, trainer.Activations);

        // A pool for both
        long token = WorkersCheck.KvBytesPerToken(config, devices.WorkerType.Bytes);
        long wanted = engine.KvCacheBytes > 0 ? engine.KvCacheBytes : (long)engine.MaxSequences * context * token;
        long left = free - trainer.State - trainer.Reference;
        return new(devices, trainer, Math.Max(trainer.Activations, Math.Min(left, devices.WorkersOnTrainer * wanted)));
    }

    /// <summary>Bytes of an engine's activations and logits, and of its weights where it can't share the trainer's.</summary>
    private static long BesideCache(WeightLayout layout, EngineOptions engine, RunDevices devices)
    {
        int elementBytes = devices.WorkerType.Bytes;
        long weights = devices.WorkerType == devices.Trainer.Type ? 0 : layout.Length * elementBytes;
        return weights
            + Decoder.ActivationBytes(layout.Config, elementBytes, engine.MaxBatchedTokens)
            + sizeof(float) * (long)engine.MaxSequences * layout.Config.VocabularySize;
    }
}
