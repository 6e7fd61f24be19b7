using System.Runtime.InteropServices;
using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.Sync;

/// <summary>
/// What changed in a chunk since the last version, exactly: for each changed element, in order, how many before it did not change (LEB128) and its
/// new bits. A step of a small learning rate leaves most bf16 elements as they are, so this is often much less than the chunk.
/// </summary>
internal static unsafe class WeightDelta
{
    /// <returns>Null where it would be as long as the chunk.</returns>
    /// <param name="size">Bytes of an element: 2 or 4.</param>
    public static byte[]? Encode(byte* before, byte* now, int length, int size)
    {
        if (new ReadOnlySpan<byte>(before, length).SequenceEqual(new(now, length))) return [];
        var encoded = new byte[length];
        int count = length / size, at = 0, last = -1;
        for (int i = 0; i < count; i++)
        {
            if (size == 2 ? ((ushort*)before)[i] == ((ushort*)now)[i] : ((uint*)before)[i] == ((uint*)now)[i]) continue;
            if (at + 5 + size > length) return null;
            uint gap = (uint)(i - last - 1);
            for (; gap >= 0x80; gap >>= 7) encoded[at++] = (byte)(gap | 0x80);
            encoded[at++] = (byte)gap;
            if (size == 2) BitConverter.TryWriteBytes(encoded.AsSpan(at), ((ushort*)now)[i]);
            else BitConverter.TryWriteBytes(encoded.AsSpan(at), ((uint*)now)[i]);
            (at, last) = (at + size, i);
        }
        return encoded[..at];
    }

    public static void Apply(ReadOnlySpan<byte> delta, Span<byte> chunk, int size)
    {
        foreach (var (index, value) in Read(delta, chunk.Length / size, size))
            if (size == 2) MemoryMarshal.Cast<byte, ushort>(chunk)[index] = (ushort)value;
            else MemoryMarshal.Cast<byte, uint>(chunk)[index] = value;
    }

    /// <summary>The changes: place in the chunk, new bits.</summary>
    /// <exception cref="IOException">It is no delta of a chunk of <paramref name="count"/> elements.</exception>
    public static Changes Read(ReadOnlySpan<byte> delta, int count, int size) => new(delta, count, size);

    public ref struct Changes(ReadOnlySpan<byte> delta, int count, int size)
    {
        private ReadOnlySpan<byte> rest = delta;
        private int index = -1;

        public readonly Changes GetEnumerator() => this;
        public (int Index, uint Value) Current { get; private set; }

        public bool MoveNext()
        {
            if (rest.Length == 0) return false;
            uint gap = 0;
            int shift = 0;
            while (true)
            {
                if (rest.Length == 0 || shift > 28) throw Damaged();
                byte next = rest[0];
                rest = rest[1..];
                gap |= (uint)(next & 0x7F) << shift;
                shift += 7;
                if (next < 0x80) break;
            }
            if (gap >= (uint)(count - index - 1) || rest.Length < size) throw Damaged();
            index += (int)gap + 1;
            Current = (index, size == 2 ? BitConverter.ToUInt16(rest) : BitConverter.ToUInt32(rest));
            rest = rest[size..];
            return true;
        }

        private readonly IOException Damaged() => new($"A weight delta doesn't fit a chunk of {count} elements: the two ends disagree about its format");
    }
}

/// <summary>The last version that was sent, kept to say what has changed since: one copy of the weights in the receivers' type.</summary>
internal sealed unsafe class WeightHistory(ScalarType type, long length) : IDisposable
{
    private readonly int size = type.ElementSize();
    private byte* last = (byte*)NativeMemory.Alloc((nuint)(length * type.ElementSize()));
    private (int Version, Deltas Deltas) current = (-1, new(0, []));
    private ulong hash; // of the last version; 0 before the first

    /// <param name="BaseHash">Of the weights that the deltas are to be applied to; 0 when there are none.</param>
    /// <param name="Chunks">By chunk; null where the whole chunk is shorter.</param>
    public sealed record Deltas(ulong BaseHash, byte[]?[] Chunks)
    {
        public long Bytes => Chunks.Sum(c => c?.LongLength ?? 0);
    }

    /// <summary>What changed from the last version to this one, which is the last from now on. Asked again about the same version, it answers the same.</summary>
    public Deltas Advance(FlatWeights source, BroadcastPlan plan)
    {
        if (current.Version == plan.Version) return current.Deltas;
        bool first = hash == 0;
        var chunks = new byte[]?[plan.Chunks];
        long sum = 0;
        var (from, to) = (NumberConversion.Of(plan.SourceType), NumberConversion.Of(plan.ElementType));
        byte* memory = (byte*)source.Pointer;
        CpuParallel.For(plan.Chunks, index =>
        {
            var (offset, bytes) = plan.Chunk(index);
            byte* now = (byte*)NativeMemory.Alloc((nuint)bytes);
            try
            {
                NumberConversion.Convert(memory + offset / size * NumberConversion.Size(from), from, now, to, bytes / size);
                if (!first) chunks[index] = WeightDelta.Encode(last + offset, now, bytes, size);
                Interlocked.Add(ref sum, (long)WeightHash.Part((nint)now, bytes, offset));
                Buffer.MemoryCopy(now, last + offset, bytes, bytes);
            }
            finally { NativeMemory.Free(now); }
        });
        current = (plan.Version, new(hash, chunks));
        hash = (ulong)sum;
        return current.Deltas;
    }

    public void Dispose()
    {
        NativeMemory.Free(last);
        last = null;
    }
}
