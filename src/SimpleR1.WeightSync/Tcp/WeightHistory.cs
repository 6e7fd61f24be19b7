using System.Buffers;
using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// The version that was sent last, kept to find what has changed since: one copy of the weights in the receivers' type.
/// </summary>
internal sealed unsafe class WeightHistory(ScalarType type, long length) : IDisposable
{
    private readonly int size = type.ElementSize();
    private byte* last = (byte*)NativeMemory.Alloc((nuint)(length * type.ElementSize()));
    private int currentVersion = -1;
    private Deltas current = new(0, []);
    private ulong hash; // of the last version; 0 before the first

    /// <param name="BaseHash">Hash of the weights that the deltas apply to; 0 when there are none.</param>
    /// <param name="Chunks">One for each chunk; null where the whole chunk is shorter.</param>
    public sealed record Deltas(ulong BaseHash, byte[]?[] Chunks)
    {
        public long Bytes => Chunks.Sum(c => c?.LongLength ?? 0);
    }

    /// <summary>
    /// What changed from the last version to this one, which then becomes the last. Called again with the same version,
    /// it returns the same.
    /// </summary>
    public Deltas Advance(FlatWeights source, BroadcastPlan plan)
    {
        if (currentVersion == plan.Version)
            return current;

        var chunks = new byte[]?[plan.Chunks];
        long sum = 0;
        byte* memory = (byte*)source.Pointer;
        CpuParallel.For(
            plan.Chunks,
            index =>
            {
                chunks[index] = Advance(memory, plan, index);
                var (offset, bytes) = plan.Chunk(index);
                Interlocked.Add(ref sum, (long)WeightHash.Part((nint)(last + offset), bytes, offset));
            }
        );

        current = new(hash, chunks);
        currentVersion = plan.Version;
        hash = (ulong)sum;
        return current;
    }

    /// <summary>Brings one chunk of the kept version up to date.</summary>
    /// <returns>Its delta; null where there is none.</returns>
    private byte[]? Advance(byte* memory, BroadcastPlan plan, int index)
    {
        var from = NumberConversion.Of(plan.SourceType);
        var to = NumberConversion.Of(plan.ElementType);
        var (offset, bytes) = plan.Chunk(index);
        byte* now = memory + offset / size * NumberConversion.Size(from);
        byte* kept = last + offset;

        if (hash == 0)
        {
            NumberConversion.Convert(now, from, kept, to, bytes / size);
            return null;
        }
        if (from == to)
            return WeightDelta.Encode(kept, now, bytes, size);

        byte[] room = ArrayPool<byte>.Shared.Rent(bytes);
        try
        {
            fixed (byte* converted = room)
            {
                NumberConversion.Convert(now, from, converted, to, bytes / size);
                return WeightDelta.Encode(kept, converted, bytes, size);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(room);
        }
    }

    public void Dispose()
    {
        NativeMemory.Free(last);
        last = null;
    }
}
