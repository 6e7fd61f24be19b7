using System.Runtime.InteropServices;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// What the host tells the GPU for a step, collected in pinned memory and sent by one or two copies. The fixed part always lies at the same
/// place, so that graphs can read it: the plan of paged_decode and (slot, position) of each row that decodes. The rest is as long as needed.
/// </summary>
internal sealed unsafe class CudaStepInputs : IDisposable
{
    private const int Align = 4; // numbers: kernels read four at a time

    private readonly CudaDevice gpu;
    private readonly int maxSequences,
        fixedLength;
    private readonly PinnedMemory[] fixedHost,
        restHost;
    private readonly DeviceMemory fixedDevice;
    private readonly List<(int Table, int Start, int Count, int First)> runs = [];
    private DeviceMemory restDevice;
    private int turn,
        used;

    /// <param name="depth">Steps whose inputs may not have been copied yet when the next ones are written.</param>
    public CudaStepInputs(CudaDevice gpu, int maxSequences, int depth)
    {
        (this.gpu, this.maxSequences) = (gpu, (maxSequences + Align - 1) / Align * Align);
        fixedLength = 4 + this.maxSequences + Align + 2 * this.maxSequences;
        const int rest = 1 << 16;
        fixedHost = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 4L * fixedLength))];
        restHost = [.. Enumerable.Range(0, depth).Select(_ => new PinnedMemory(gpu, 4L * rest))];
        fixedDevice = gpu.AllocateZeros(4L * fixedLength, "step inputs");
        restDevice = gpu.Allocate(4L * rest, "step inputs");
    }

    // The fixed part, on the host (of this step) and on the device.
    private Span<int> Fixed => fixedHost[turn].Span<int>();

    /// <summary>{rows that decode, warps, tiles a warp, -}</summary>
    public Span<int> Plan => Fixed[..4];

    /// <summary>[rows + 1]: tiles of the rows before.</summary>
    public Span<int> TilesBefore => Fixed.Slice(4, maxSequences + 1);
    public Span<int> Slots => Fixed.Slice(4 + maxSequences + Align, maxSequences);
    public Span<int> At => Fixed.Slice(4 + 2 * maxSequences + Align, maxSequences);
    public nint PlanAddress => fixedDevice.Pointer;
    public nint TilesBeforeAddress => fixedDevice.Pointer + 4 * 4;
    public nint SlotsAddress => fixedDevice.Pointer + 4 * (4 + maxSequences + Align);
    public nint AtAddress => fixedDevice.Pointer + 4 * (4 + 2 * maxSequences + Align);

    /// <summary>Starts a step's inputs.</summary>
    public void Begin()
    {
        turn = (turn + 1) % fixedHost.Length;
        used = 0;
        runs.Clear();
    }

    /// <summary>Room for numbers in the rest; their <see cref="Address"/> is known after <see cref="Send"/>.</summary>
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
        return restHost[turn].Span<int>().Slice(offset, count);
    }

    /// <summary>What <see cref="Add"/> gave, where it lies now: adding more may have moved it.</summary>
    public Span<int> Room(int offset, int count) => restHost[turn].Span<int>().Slice(offset, count);

    /// <summary>Numbers to be written into a table on the device: 0 tokens, 1 block tables, 2 parameters.</summary>
    public Span<int> AddRun(int table, int start, int count)
    {
        var room = Add(count, out int offset);
        runs.Add((table, start, count, offset));
        return room;
    }

    public nint Address(int offset) => restDevice.Pointer + 4 * offset;

    /// <summary>Copies all to the device and writes the tables.</summary>
    public void Send(Kernel scatter, nint tokens, nint tables, nint parameters)
    {
        int count = runs.Count,
            at = 0;
        if (count > 0)
            CollectionsMarshal
                .AsSpan(runs)
                .CopyTo(MemoryMarshal.Cast<int, (int, int, int, int)>(Add(4 * count, out at)));
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
            scatter.Launch((count, 1), 128, 0, Address(at), restDevice.Pointer, tokens, tables, parameters);
    }

    public void Dispose()
    {
        fixedDevice.Dispose(); // waits for the GPU
        restDevice.Dispose();
        foreach (var memory in fixedHost.Concat(restHost))
            memory.Dispose();
    }
}
