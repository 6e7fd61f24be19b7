using System.Runtime.InteropServices;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// A table that <see cref="CudaStepInputs"/> can write to; the numbers are the kernel's, scatter in StepInputs.cu.
/// </summary>
internal enum SlotTable
{
    Tokens = 0,
    Blocks = 1,
    Parameters = 2,
}

/// <summary>
/// The host's inputs of a step, collected in pinned memory and sent by one or two copies. The fixed part always lies at
/// the same place, so that graphs can read it: the plan of paged_decode and (slot, position) of each row that decodes.
/// The rest is as long as needed.
/// </summary>
internal sealed unsafe class CudaStepInputs : IDisposable
{
    private const int Align = 4; // numbers: kernels read four at a time
    private const int PlanLength = 4;
    private const int FirstRestLength = 1 << 16;

    private readonly CudaDevice gpu;
    private readonly int maxSequences; // rounded up to Align
    private readonly int fixedLength;
    private readonly PinnedMemory[] fixedHost; // by turn
    private readonly PinnedMemory[] restHost;
    private readonly DeviceMemory fixedDevice;
    private readonly List<(SlotTable Table, int Start, int Count, int Offset)> runs = [];
    private DeviceMemory restDevice;
    private int turn;
    private int used; // numbers of the rest

    /// <param name="depth">Steps whose inputs may not have been copied yet when the next ones are written.</param>
    public CudaStepInputs(CudaDevice gpu, int maxSequences, int depth)
    {
        this.gpu = gpu;
        this.maxSequences = (maxSequences + Align - 1) / Align * Align;
        fixedLength = PositionsStart + this.maxSequences;
        fixedHost = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 4L * fixedLength))];
        restHost = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 4L * FirstRestLength))];
        fixedDevice = gpu.AllocateZeros(4L * fixedLength, "step inputs");
        restDevice = gpu.Allocate(4L * FirstRestLength, "step inputs");
    }

    // The fixed part, in numbers: plan, tiles before, slots, positions.
    private int SlotsStart => PlanLength + maxSequences + Align;
    private int PositionsStart => SlotsStart + maxSequences;
    private Span<int> Fixed => fixedHost[turn].Span<int>();

    /// <summary>{rows that decode, warps, tiles a warp, -}</summary>
    public Span<int> Plan => Fixed[..PlanLength];

    /// <summary>[rows + 1]: tiles of the rows before.</summary>
    public Span<int> TilesBefore => Fixed.Slice(PlanLength, maxSequences + 1);

    /// <summary>[rows]: the slot of each row that decodes.</summary>
    public Span<int> Slots => Fixed.Slice(SlotsStart, maxSequences);

    /// <summary>[rows]: the position of the token of each row that decodes.</summary>
    public Span<int> Positions => Fixed.Slice(PositionsStart, maxSequences);

    // The same on the device.
    public nint PlanAddress => fixedDevice.Pointer;
    public nint TilesBeforeAddress => fixedDevice.Pointer + 4 * PlanLength;
    public nint SlotsAddress => fixedDevice.Pointer + 4 * SlotsStart;
    public nint PositionsAddress => fixedDevice.Pointer + 4 * PositionsStart;

    /// <summary>Starts a step's inputs.</summary>
    public void Begin()
    {
        turn = (turn + 1) % fixedHost.Length;
        used = 0;
        runs.Clear();
    }

    /// <summary>
    /// Reserves room for numbers in the rest; their <see cref="Address"/> is known after <see cref="Send"/>.
    /// </summary>
    /// <returns>The room, which is valid until the next call; see <see cref="Room"/>.</returns>
    public Span<int> Add(int count, out int offset)
    {
        offset = used;
        used = (used + count + Align - 1) / Align * Align;
        if (4L * used > restHost[turn].Bytes)
        {
            var larger = new PinnedMemory(gpu, 8L * used);
            restHost[turn].Span<int>()[..offset].CopyTo(larger.Span<int>());
            restHost[turn].Dispose();
            restHost[turn] = larger;
        }

        return Room(offset, count);
    }

    /// <summary>The room that <see cref="Add"/> reserved, where it lies now: adding more may have moved it.</summary>
    public Span<int> Room(int offset, int count) => restHost[turn].Span<int>().Slice(offset, count);

    /// <summary>Reserves room for numbers that <see cref="Send"/> writes into a table on the device.</summary>
    /// <param name="start">The first number in the table.</param>
    public Span<int> AddRun(SlotTable table, int start, int count)
    {
        var room = Add(count, out int offset);
        runs.Add((table, start, count, offset));
        return room;
    }

    /// <summary>Device address of what <see cref="Add"/> reserved.</summary>
    public nint Address(int offset) => restDevice.Pointer + 4 * offset;

    /// <summary>Copies all inputs to the device and writes the tables.</summary>
    public void Send(Kernel scatter, nint tokens, nint blocks, nint parameters)
    {
        int count = runs.Count;
        int runsOffset = 0;
        if (count > 0)
        {
            var room = MemoryMarshal.Cast<int, (SlotTable, int, int, int)>(Add(4 * count, out runsOffset));
            CollectionsMarshal.AsSpan(runs).CopyTo(room);
        }

        if (used > 0)
        {
            if (restDevice.Bytes < 4L * used)
            {
                restDevice.Dispose();
                restDevice = gpu.Allocate(restHost[turn].Bytes, "step inputs");
            }

            gpu.Upload(restHost[turn].Pointer, restDevice.Pointer, 4L * used);
        }

        gpu.Upload(fixedHost[turn].Pointer, fixedDevice.Pointer, 4L * fixedLength);
        if (count > 0)
            scatter.Launch((count, 1), 128, 0, Address(runsOffset), restDevice.Pointer, tokens, blocks, parameters);
    }

    public void Dispose()
    {
        fixedDevice.Dispose(); // waits for the GPU
        restDevice.Dispose();
        foreach (var memory in fixedHost.Concat(restHost))
            memory.Dispose();
    }
}
