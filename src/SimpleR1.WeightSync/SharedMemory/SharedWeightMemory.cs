using Microsoft.Win32.SafeHandles;
using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.SharedMemory;

/// <summary>
/// Memory that other processes of this machine can map through <c>/proc/PID/fd/N</c>. It has no name in any file
/// system: the system frees it when the last process that maps it has ended, however that happens.
/// </summary>
public sealed class SharedWeightMemory : IDisposable
{
    private readonly SafeFileHandle file;
    private readonly long bytes;
    private nint address;

    private SharedWeightMemory(long bytes)
    {
        this.bytes = bytes;
        Name = "simple-r1-weights-" + Guid.NewGuid().ToString("N");
        file = Libc.CreateMemory(Name, bytes);
        address = Libc.Map(file, bytes, writable: true);
    }

    /// <summary>Weights (zeros) in shared memory, f32 by default; disposing them ends the sharing.</summary>
    public static FlatWeights Allocate(WeightLayout layout, ScalarType type = ScalarType.Float32)
    {
        var memory = new SharedWeightMemory(checked(layout.Length * type.ElementSize()));
        return new(layout, type, memory.address, memory);
    }

    /// <summary>
    /// An unguessable name: a receiver that finds it at the descriptor has found this memory and no other process's.
    /// </summary>
    internal string Name { get; }
    internal string Address => $"{Environment.ProcessId}/{file.DangerousGetHandle()}/{Name}";

    public void Dispose()
    {
        nint mapped = Interlocked.Exchange(ref address, 0);
        if (mapped == 0)
            return;
        Libc.Unmap(mapped, bytes);
        file.Dispose();
    }
}
