using System.Buffers;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// What changed in a chunk since the last version, exactly. For each changed element, in order, it holds the number of
/// unchanged ones before it (LEB128) and its new bits. A step of a small learning rate leaves most bf16 elements as
/// they are, so a delta is often much shorter than the chunk.
/// </summary>
internal static unsafe class WeightDelta
{
    private const int LongestGap = 5; // a 32-bit number in LEB128
    private const int BlockBytes = 64; // a vector: what is compared in one instruction

    /// <summary>
    /// Encodes what changed, and copies the bits of <paramref name="now"/> to <paramref name="before"/>.
    /// </summary>
    /// <param name="length">Length of both in bytes: whole elements.</param>
    /// <param name="size">Bytes of an element: 2 or 4.</param>
    /// <returns>The delta, empty where nothing changed; null where it would be as long as the chunk.</returns>
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
        int encoded = 0; // bytes
        int next = 0; // the element after the last changed one
        int block;
        for (int done = 0; done < length; done += block)
        {
            // Copy a block, and find which of its elements changed.
            block = Math.Min(BlockBytes, length - done);
            ulong changed =
                block == BlockBytes
                    ? Renew<T>(before + done, now + done)
                    : RenewEnd<T>(before + done, now + done, block);

            for (; changed != 0; changed &= changed - 1)
            {
                // Give up where the whole chunk is shorter; the rest is still copied.
                if (encoded + LongestGap + sizeof(T) > length)
                {
                    Buffer.MemoryCopy(now + done, before + done, length - done, length - done);
                    return -1;
                }

                int index = done / sizeof(T) + BitOperations.TrailingZeroCount(changed);
                uint gap = (uint)(index - next);
                for (; gap >= 0x80; gap >>= 7)
                    to[encoded++] = (byte)(gap | 0x80);
                to[encoded++] = (byte)gap;
                *(T*)(to + encoded) = ((T*)before)[index]; // from the copy: the trainer may be writing to the original
                encoded += sizeof(T);
                next = index + 1;
            }
        }
        return encoded;
    }

    /// <summary>Copies a block.</summary>
    /// <returns>A bit for each of its elements that changed, the first one's lowest.</returns>
    private static ulong Renew<T>(byte* before, byte* now)
        where T : unmanaged
    {
        var current = Vector512.Load(now);
        var same = Vector512.Equals(current.As<byte, T>(), Vector512.Load(before).As<byte, T>());
        if (same == Vector512<T>.AllBitsSet)
            return 0;
        current.Store(before);
        return ~same.ExtractMostSignificantBits() & ulong.MaxValue >> 64 - Vector512<T>.Count;
    }

    /// <inheritdoc cref="Renew"/>
    private static ulong RenewEnd<T>(byte* before, byte* now, int bytes)
        where T : unmanaged
    {
        byte* block = stackalloc byte[BlockBytes];
        byte* kept = stackalloc byte[BlockBytes];
        Buffer.MemoryCopy(now, block, BlockBytes, bytes);
        Buffer.MemoryCopy(before, kept, BlockBytes, bytes);
        ulong changed = Renew<T>(kept, block);
        Buffer.MemoryCopy(kept, before, bytes, bytes);
        return changed & (1ul << bytes / sizeof(T)) - 1;
    }

    /// <summary>Writes the changed elements into a chunk.</summary>
    /// <exception cref="IOException">The delta is not one of a chunk of this length.</exception>
    public static void Apply(ReadOnlySpan<byte> delta, Span<byte> chunk, int size)
    {
        foreach (var (index, value) in Read(delta, chunk.Length / size, size))
            if (size == 2)
                MemoryMarshal.Cast<byte, ushort>(chunk)[index] = (ushort)value;
            else
                MemoryMarshal.Cast<byte, uint>(chunk)[index] = value;
    }

    /// <summary>The changes: index in the chunk, new bits.</summary>
    /// <exception cref="IOException">
    /// The delta is not one of a chunk of <paramref name="count"/> elements; thrown while it is read.
    /// </exception>
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
            uint gap = ReadGap();
            if (gap >= (uint)(count - index - 1) || rest.Length < size)
                throw Damaged();
            index += (int)gap + 1;
            Current = (index, size == 2 ? BitConverter.ToUInt16(rest) : BitConverter.ToUInt32(rest));
            rest = rest[size..];
            return true;
        }

        /// <summary>LEB128: seven bits a byte, the lowest first.</summary>
        private uint ReadGap()
        {
            uint gap = 0;
            for (int shift = 0; ; shift += 7)
            {
                if (rest.Length == 0 || shift > 28)
                    throw Damaged();
                byte next = rest[0];
                rest = rest[1..];
                gap |= (uint)(next & 0x7F) << shift;
                if (next < 0x80)
                    return gap;
            }
        }

        private readonly IOException Damaged() =>
            new($"A weight delta doesn't fit a chunk of {count} elements: the two ends disagree about its format");
    }
}
