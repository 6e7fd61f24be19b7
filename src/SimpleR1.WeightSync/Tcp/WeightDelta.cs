using System.Buffers;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// What changed in a chunk since the last version, exactly: for each changed element, in order, how many before it did not change (LEB128) and its
/// new bits. A step of a small learning rate leaves most bf16 elements as they are, so this is often much less than the chunk.
/// </summary>
internal static unsafe class WeightDelta
{
    private const int LongestGap = 5; // a 32-bit number in LEB128
    private const int BlockBytes = 64; // a vector, which is what is compared at once

    /// <summary>Encodes what changed, and brings <paramref name="before"/> up to date: it holds the bits of <paramref name="now"/> after this.</summary>
    /// <param name="length">Of both, in bytes: whole elements.</param>
    /// <param name="size">Bytes of an element: 2 or 4.</param>
    /// <returns>Empty where nothing changed; null where it would be as long as the chunk.</returns>
    public static byte[]? Encode(byte* before, byte* now, int length, int size)
    {
        byte[] room = ArrayPool<byte>.Shared.Rent(length);
        try
        {
            int encoded;
            fixed (byte* to = room)
                encoded = size == 2 ? Encode<ushort>(before, now, length, to) : Encode<uint>(before, now, length, to);
            return encoded < 0 ? null : room.AsSpan(0, encoded).ToArray();
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(room);
        }
    }

    /// <returns>The encoded length; -1 where it would be as long as the chunk.</returns>
    private static int Encode<T>(byte* before, byte* now, int length, byte* to)
        where T : unmanaged
    {
        int at = 0,
            next = 0,
            block; // bytes encoded; the element behind the last changed one
        for (int done = 0; done < length; done += block)
        {
            block = Math.Min(BlockBytes, length - done);
            ulong changed =
                block == BlockBytes
                    ? Renew<T>(before + done, now + done)
                    : RenewEnd<T>(before + done, now + done, block);
            for (; changed != 0; changed &= changed - 1)
            {
                if (at + LongestGap + sizeof(T) > length)
                {
                    Buffer.MemoryCopy(now + done, before + done, length - done, length - done);
                    return -1;
                }
                int index = done / sizeof(T) + BitOperations.TrailingZeroCount(changed);
                uint gap = (uint)(index - next);
                for (; gap >= 0x80; gap >>= 7)
                    to[at++] = (byte)(gap | 0x80);
                to[at++] = (byte)gap;
                *(T*)(to + at) = ((T*)before)[index]; // of the copy: the trainer may be writing to the other
                (at, next) = (at + sizeof(T), index + 1);
            }
        }
        return at;
    }

    /// <summary>Copies a block.</summary>
    /// <returns>A bit for each of its elements that changed, the first one's lowest.</returns>
    private static ulong Renew<T>(byte* before, byte* now)
        where T : unmanaged
    {
        var fresh = Vector512.Load(now);
        var same = Vector512.Equals(fresh.As<byte, T>(), Vector512.Load(before).As<byte, T>());
        if (same == Vector512<T>.AllBitsSet)
            return 0;
        fresh.Store(before);
        return ~same.ExtractMostSignificantBits() & ulong.MaxValue >> 64 - Vector512<T>.Count;
    }

    /// <inheritdoc cref="Renew"/>
    private static ulong RenewEnd<T>(byte* before, byte* now, int bytes)
        where T : unmanaged
    {
        byte* block = stackalloc byte[BlockBytes],
            kept = stackalloc byte[BlockBytes];
        Buffer.MemoryCopy(now, block, BlockBytes, bytes);
        Buffer.MemoryCopy(before, kept, BlockBytes, bytes);
        ulong changed = Renew<T>(kept, block);
        Buffer.MemoryCopy(kept, before, bytes, bytes);
        return changed & (1ul << bytes / sizeof(T)) - 1;
    }

    public static void Apply(ReadOnlySpan<byte> delta, Span<byte> chunk, int size)
    {
        foreach (var (index, value) in Read(delta, chunk.Length / size, size))
            if (size == 2)
                MemoryMarshal.Cast<byte, ushort>(chunk)[index] = (ushort)value;
            else
                MemoryMarshal.Cast<byte, uint>(chunk)[index] = value;
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
            if (rest.Length == 0)
                return false;
            uint gap = 0;
            int shift = 0;
            while (true)
            {
                if (rest.Length == 0 || shift > 28)
                    throw Damaged();
                byte next = rest[0];
                rest = rest[1..];
                gap |= (uint)(next & 0x7F) << shift;
                shift += 7;
                if (next < 0x80)
                    break;
            }
            if (gap >= (uint)(count - index - 1) || rest.Length < size)
                throw Damaged();
            index += (int)gap + 1;
            Current = (index, size == 2 ? BitConverter.ToUInt16(rest) : BitConverter.ToUInt32(rest));
            rest = rest[size..];
            return true;
        }

        private readonly IOException Damaged() =>
            new($"A weight delta doesn't fit a chunk of {count} elements: the two ends disagree about its format");
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
        if (current.Version == plan.Version)
            return current.Deltas;
        bool first = hash == 0;
        var chunks = new byte[]?[plan.Chunks];
        long sum = 0;
        var (from, to) = (NumberConversion.Of(plan.SourceType), NumberConversion.Of(plan.ElementType));
        byte* memory = (byte*)source.Pointer;
        CpuParallel.For(
            plan.Chunks,
            index =>
            {
                var (offset, bytes) = plan.Chunk(index);
                byte* now = memory + offset / size * NumberConversion.Size(from),
                    kept = last + offset;
                if (first)
                    NumberConversion.Convert(now, from, kept, to, bytes / size);
                else if (from == to)
                    chunks[index] = WeightDelta.Encode(kept, now, bytes, size);
                else
                {
                    byte[] room = ArrayPool<byte>.Shared.Rent(bytes);
                    fixed (byte* converted = room)
                    {
                        NumberConversion.Convert(now, from, converted, to, bytes / size);
                        chunks[index] = WeightDelta.Encode(kept, converted, bytes, size);
                    }
                    ArrayPool<byte>.Shared.Return(room);
                }
                Interlocked.Add(ref sum, (long)WeightHash.Part((nint)kept, bytes, offset));
            }
        );
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
