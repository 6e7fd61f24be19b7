using System.Runtime.InteropServices;
using SimpleR1.Inference.Scheduling;
using SimpleR1.Models;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// The device's tables of running sequences, a row for each slot: tokens, block tables, sampling parameters. A step
/// sends only what the device does not have yet.
/// </summary>
internal sealed class CudaTables : IDisposable
{
    private readonly CudaStepInputs inputs;
    private readonly Kernel scatter;
    private readonly DeviceMemory tokens;
    private readonly DeviceMemory blocks;
    private readonly DeviceMemory parameters;
    private readonly (Sequence? Sequence, int Admission, int Blocks)[] stored; // by slot: what the device has

    /// <param name="advice">What to do if there is no memory.</param>
    public CudaTables(CudaDevice gpu, ModelConfig config, EngineOptions options, CudaStepInputs inputs, string advice)
    {
        this.inputs = inputs;
        int sequences = options.MaxSequences;
        int context = options.ContextOf(config);
        int tokenStride = context + 1;
        int blockStride = (context + options.BlockSize - 1) / options.BlockSize;

        tokens = gpu.Allocate(4L * sequences * tokenStride, "the table of tokens", advice);
        blocks = gpu.AllocateZeros(4L * sequences * blockStride, "the block tables");
        parameters = gpu.Allocate(4L * CudaSlotParameters.Length * sequences, "sampling parameters");
        stored = new (Sequence?, int, int)[sequences];
        Tokens = new(tokens.Pointer, tokenStride);
        Blocks = new(blocks.Pointer, blockStride);

        string[] shape = [$"KV_HEADS={config.KeyValueHeads}", $"BLOCK={options.BlockSize}"];
        scatter = gpu.Kernels.Get("StepInputs", "scatter", shape);
    }

    /// <summary>[slots, context + 1]: tokens of prompt and output, those that were just drawn included.</summary>
    public DeviceTable Tokens { get; }

    /// <summary>[slots, blocks of the longest context]</summary>
    public DeviceTable Blocks { get; }

    /// <summary>[slots] of <see cref="CudaSlotParameters"/>: device address.</summary>
    public nint Parameters => parameters.Pointer;

    /// <summary>
    /// Adds to the inputs what the device does not have of a sequence: all of it when it is newly admitted, else new
    /// blocks.
    /// </summary>
    public void Update(Sequence sequence)
    {
        ref var row = ref stored[sequence.Slot];
        if (row.Sequence != sequence || row.Admission != sequence.Admissions)
        {
            row = (sequence, sequence.Admissions, 0);
            AddTokensAndParameters(sequence);
        }

        int added = sequence.Blocks.Count - row.Blocks;
        if (added == 0)
            return;
        var room = inputs.AddRun(SlotTable.Blocks, sequence.Slot * Blocks.Stride + row.Blocks, added);
        CollectionsMarshal.AsSpan(sequence.Blocks)[^added..].CopyTo(room);
        row.Blocks = sequence.Blocks.Count;
    }

    /// <summary>Sends the step's inputs and writes the tables.</summary>
    public void Send() => inputs.Send(scatter, tokens.Pointer, blocks.Pointer, parameters.Pointer);

    private void AddTokensAndParameters(Sequence sequence)
    {
        int slot = sequence.Slot;
        var tokenRoom = inputs.AddRun(SlotTable.Tokens, slot * Tokens.Stride, sequence.Known);
        sequence.Tokens.CopyTo(tokenRoom);

        const int length = CudaSlotParameters.Length;
        var parameters = CudaSlotParameters.Of(
            sequence.Request.Sampling,
            sequence.Seed,
            sequence.Request.PromptTokens.Length
        );
        var numbers = MemoryMarshal.Cast<CudaSlotParameters, int>(new ReadOnlySpan<CudaSlotParameters>(in parameters));
        numbers.CopyTo(inputs.AddRun(SlotTable.Parameters, slot * length, length));
    }

    public void Dispose()
    {
        tokens.Dispose();
        blocks.Dispose();
        parameters.Dispose();
    }
}
