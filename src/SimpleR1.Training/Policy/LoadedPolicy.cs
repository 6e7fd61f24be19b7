using SimpleR1.Cluster.Trainer;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Ipc;
using SimpleR1.Training.Planning;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>A policy in the memory of its device: weights, what trains them, and on a GPU the pool of activations.</summary>
internal sealed class LoadedPolicy : IDisposable
{
    private const string Remedy = "lower training.tokens_per_micro_batch or set training.gradient_checkpointing";

    private readonly TrainerMemory plan;
    private readonly DevicePool? activations;
    private DeviceMemory? pool;
    private ColocatedMemory? shared;

    /// <summary>Takes the memory that is planned; the weights are zeros.</summary>
    /// <param name="poolBytes">Bytes of the pool where workers share it, who may need more than activations do.</param>
    /// <exception cref="CudaOutOfMemoryException">The GPU has too little memory left.</exception>
    public LoadedPolicy(TrainerMemory plan, OptimizerSection optimizer, long poolBytes = 0)
    {
        this.plan = plan;
        var gpu = plan.Device.Open();
        Weights = gpu is null
            ? SharedWeightMemory.Allocate(plan.Layout)
            : new FlatWeights(plan.Layout, plan.Device.Type.Scalar, gpu);
        var state = new Optimizer(Weights, optimizer);
        if (gpu is not null)
        {
            pool = Allocate(gpu, Math.Max(poolBytes, plan.Activations));
            activations = new(pool, Remedy) { IsLent = () => shared?.IsLent ?? false };
        }
        var options = new PolicyOptions(plan.TokensPerMicroBatch, plan.Checkpointing) { Head = plan.Head };
        Model = new(new(Weights), state, options, activations);
    }

    public FlatWeights Weights { get; }
    public PolicyModel Model { get; }

    /// <summary>Hash of the first weights in f32, the same on every device.</summary>
    public ulong StartHash { get; private set; }

    /// <summary>Most bytes of activations so far; 0 on a CPU, where nobody counts.</summary>
    public long PeakActivations => activations?.PeakBytes ?? 0;

    /// <summary>Sets the first weights.</summary>
    /// <param name="initialize">Sets f32 weights in the host's memory.</param>
    public void Initialize(Action<FlatWeights> initialize) => StartHash = Set(initialize);

    /// <summary>Replaces the weights; what trains them stays as it is.</summary>
    /// <param name="set">Sets f32 weights in the host's memory.</param>
    /// <returns>Their hash in f32, the same on every device.</returns>
    public ulong Set(Action<FlatWeights> set)
    {
        CpuParallel.Threads = Environment.ProcessorCount;
        if (Weights.Device is null)
        {
            set(Weights);
            return WeightHash.Of(Weights);
        }
        using var onHost = new FlatWeights(plan.Layout, ScalarType.Float32, CPU);
        set(onHost);
        Model.Optimizer.Master.CopyFrom(onHost);
        ulong hash = WeightHash.Of(onHost);
        CpuParallel.Threads = 1; // what is left for the host, losses, is too small to share; a GPU waits for it
        return hash;
    }

    /// <summary>The pool is an allocation of its own, which other processes can map.</summary>
    private static DeviceMemory Allocate(CudaDevice gpu, long bytes) =>
        gpu.Allocate(IpcHandle.RoundUp(bytes), "the pool of activations", Remedy);

    /// <summary>A frozen copy of the weights as they are now, on the same device, for the caller to dispose.</summary>
    public FlatWeights Copy()
    {
        if (Weights.Device is not { } gpu)
        {
            var onCpu = new FlatWeights(plan.Layout, ScalarType.Float32, CPU);
            onCpu.Flat.copy_(Weights.Flat);
            return onCpu;
        }
        var copy = new FlatWeights(plan.Layout, Weights.Flat.dtype, gpu);
        gpu.CopyWithin(Weights.Pointer, copy.Pointer, Weights.ByteLength);
        return copy;
    }

    /// <summary>Lets workers on the GPU have the weights, and the pool in turns with training.</summary>
    /// <param name="thread">The policy's, which makes the pool smaller if the driver shares no memory.</param>
    public ColocatedMemory Share(TensorThread thread) =>
        shared = new(Weights, pool ?? throw new InvalidOperationException("only memory of a GPU is shared"))
        {
            Refused = () => thread.RunAsync(ShrinkPool).GetAwaiter().GetResult(),
        };

    /// <summary>Leaves workers with memory of their own what the activations do not need.</summary>
    private void ShrinkPool()
    {
        pool!.Dispose();
        pool = Allocate(Weights.Device!, plan.Activations);
        activations!.Use(pool);
    }

    public void Dispose()
    {
        Model.Dispose();
        activations?.Dispose();
        pool?.Dispose();
        Weights.Dispose();
    }
}
