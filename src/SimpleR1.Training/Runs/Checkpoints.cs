using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Runs.Files;
using static TorchSharp.torch;

namespace SimpleR1.Training.Runs;

/// <summary>
/// Checkpoints of a run: a Hugging Face model folder in f32, with the optimizer's moments and the run's state. A
/// checkpoint is visible only when complete (see <see cref="AtomicFolder"/>).
/// </summary>
public static class Checkpoints
{
    private const string OptimizerFile = "optimizer.safetensors";

    public static string Folder(RunFolder run, int step) => Path.Combine(run.Path, "checkpoints", $"step-{step:D6}");

    /// <exception cref="IOException">
    /// The checkpoint can't be written, for example because the disk is full. Earlier checkpoints are untouched.
    /// </exception>
    public static void Save(RunFolder run, PolicyModel policy, RunState state, ModelFiles files, int keep)
    {
        string folder = Folder(run, state.Step);
        if (Directory.Exists(folder))
            return; // the step is saved already
        AtomicFolder.Write(
            folder,
            temporary =>
            {
                policy.Optimizer.Master.UseOnCpu(master =>
                    Checkpoint.Write(temporary, master, WeightType.F32, files.Folder)
                );
                files.Template.WriteTo(temporary, files.Tokenizer);
                WriteMoments(temporary, policy);
                state.Write(temporary);
            }
        );
        DeleteOld(run, keep);
    }

    private static void WriteMoments(string folder, PolicyModel policy)
    {
        using var scope = NewDisposeScope();
        long[] shape = [policy.Weights.Layout.Length];
        SafetensorsWriter.Write(
            Path.Combine(folder, OptimizerFile),
            [
                new("mean", shape, Aten.DataPointer(policy.OnHost(policy.Optimizer.Mean))),
                new("variance", shape, Aten.DataPointer(policy.OnHost(policy.Optimizer.Variance))),
            ],
            WeightType.F32
        );
    }

    /// <summary>Keeps the newest checkpoints, and the best.</summary>
    public static void DeleteOld(RunFolder run, int keep)
    {
        string? best = BestCheckpoint.Read(run) is { } known ? Folder(run, known.Step) : null;
        foreach (string old in All(run).SkipLast(keep).Where(folder => folder != best))
            Directory.Delete(old, recursive: true);
    }

    /// <summary>Loads weights, moments and state of the newest complete checkpoint; null when there is none.</summary>
    /// <param name="seed">The recipe's seed.</param>
    /// <param name="startHash">Hash of the weights of the recipe's model.</param>
    /// <exception cref="InvalidDataException">
    /// The checkpoint is damaged, or of another seed or model. The message has the file, and what to do.
    /// </exception>
    public static RunState? LoadLatest(RunFolder run, PolicyModel policy, ulong seed, ulong startHash)
    {
        if (All(run).LastOrDefault() is not { } folder)
            return null;
        var state = Check(folder, run, seed, startHash);
        policy.Optimizer.Master.Read(folder);
        using var moments = SafetensorsFile.Open(Path.Combine(folder, OptimizerFile));
        ReadMoment(moments, "mean", policy.Optimizer.Mean, policy.Weights.Device);
        ReadMoment(moments, "variance", policy.Optimizer.Variance, policy.Weights.Device);
        policy.Optimizer.Steps = state.OptimizerSteps;
        return state;
    }

    private static RunState Check(string folder, RunFolder run, ulong seed, ulong startHash)
    {
        try
        {
            AtomicFolder.Verify(folder);
        }
        catch (InvalidDataException e)
        {
            throw new InvalidDataException($"{e.Message}. Delete {folder} to resume from the checkpoint before it.", e);
        }
        var state = RunState.Read(folder);
        if (state.Seed != seed)
            throw new InvalidDataException(
                $"{folder} is of a run with seed {state.Seed}, the recipe says seed {seed}: its data order and samples "
                    + $"would be others. Resume with --set seed={state.Seed}, or start a new run under another name."
            );
        if (state.StartHash != startHash)
            throw new InvalidDataException(
                $"{folder} is of a run that began with other weights than those of the recipe's model.path. Resume with "
                    + $"the model that the run began with ({run.Recipe} names it), or start a new run under another name."
            );
        return state;
    }

    private static unsafe void ReadMoment(SafetensorsFile moments, string name, Tensor tensor, CudaDevice? gpu)
    {
        if (!moments.Entries.TryGetValue(name, out var entry) || entry.Length != tensor.numel())
            throw new InvalidDataException(
                $"{moments.Path}: '{name}' does not fit the model; was the checkpoint written by another model?"
            );
        if (gpu is null)
        {
            moments.Read(entry, (float*)Aten.DataPointer(tensor));
            return;
        }
        using var host = empty(tensor.shape, dtype: tensor.dtype);
        moments.Read(entry, (float*)Aten.DataPointer(host));
        gpu.Upload(Aten.DataPointer(host), Aten.DataPointer(tensor), sizeof(float) * entry.Length);
        gpu.Synchronize(); // the host's memory is freed
    }

    /// <summary>The folders of a run's complete checkpoints, by step.</summary>
    internal static IEnumerable<string> All(RunFolder run)
    {
        string parent = Path.Combine(run.Path, "checkpoints");
        return Directory.Exists(parent)
            ? Directory.EnumerateDirectories(parent, "step-??????").Order(StringComparer.Ordinal)
            : [];
    }
}
