using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.WeightSync;

/// <summary>
/// A 64-bit hash of a weight buffer: Σ over 64-bit words of mix(word ⊕ (index + 1)·φ), mod 2⁶⁴. Each word's term
/// depends on its place, and the sum on no order, so any split over chunks, threads, ranks or GPU blocks gives the same
/// number. It distinguishes damaged or mixed-up weights from the right ones; it is no defence against someone who
/// forges them.
/// </summary>
public static unsafe class WeightHash
{
    private const ulong Golden = 0x9E3779B97F4A7C15; // 2⁶⁴ / φ
    private const ulong First = 0xFF51AFD7ED558CCD; // MurmurHash3's 64-bit finaliser, with Second
    private const ulong Second = 0xC4CEB9FE1A85EC53;
    private const int ItemBytes = 1 << 20; // of parallel loops: large against their overhead, small against the cache

    /// <summary>
    /// Hash of weights, computed where they are: a GPU's weights by its own kernel, so that only 8 bytes come back.
    /// </summary>
    public static ulong Of(FlatWeights weights) => Of(weights, weights.Flat.dtype);

    /// <summary>
    /// The hash that these weights have when they are held in another type; no copy of that size is made.
    /// </summary>
    /// <param name="stream">
    /// The same GPU with a stream of this thread's, where the weights' own stream is another thread's.
    /// </param>
    public static ulong Of(FlatWeights weights, ScalarType held, CudaDevice? stream = null)
    {
        if ((stream ?? weights.Device) is { } gpu)
            return OnDevice(gpu, weights, held);
        if (held == weights.Flat.dtype)
            return Compute(weights.Pointer, weights.ByteLength);
        return Converted(weights, held);
    }

    private static ulong Converted(FlatWeights weights, ScalarType held)
    {
        var from = NumberConversion.Of(weights.Flat.dtype);
        var to = NumberConversion.Of(held);
        int size = NumberConversion.Size(to);
        int fromSize = NumberConversion.Size(from);
        int perItem = ItemBytes / size;
        long count = weights.Layout.Length;
        long sum = 0;
        byte* source = (byte*)weights.Pointer;

        CpuParallel.For(
            checked((int)((count + perItem - 1) / perItem)),
            item =>
            {
                // Convert an item into memory of its own, and hash it there.
                long first = (long)item * perItem;
                int n = (int)Math.Min(perItem, count - first);
                byte* converted = (byte*)NativeMemory.Alloc((nuint)ItemBytes);
                try
                {
                    NumberConversion.Convert(source + first * fromSize, from, converted, to, n);
                    Interlocked.Add(ref sum, (long)Part((nint)converted, (long)n * size, first * size));
                }
                finally
                {
                    NativeMemory.Free(converted);
                }
            }
        );
        return (ulong)sum;
    }

    private static ulong OnDevice(CudaDevice gpu, FlatWeights weights, ScalarType held)
    {
        // Without a conversion the kernel reads words, whatever the elements are.
        string[] types =
            held == weights.Flat.dtype
                ? ["ELEMENT=float"]
                : [ElementType.Of(weights.Flat.dtype).Definition(), ElementType.Of(held).Definition("HELD")];
        var kernel = gpu.Kernels.Get("WeightHash", "weight_hash", types);
        long words = weights.Layout.Length * held.ElementSize() / sizeof(ulong); // layouts are whole words long

        gpu.Fill(gpu.Word.Pointer, 0, sizeof(ulong));
        kernel.Launch((8 * gpu.Multiprocessors, 1), 256, 0, weights.Pointer, words, gpu.Word);
        return gpu.Read<ulong>(gpu.Word.Pointer, 1)[0];
    }

    /// <summary>Hash of <paramref name="bytes"/> bytes of host memory; the last word is padded with zeros.</summary>
    public static ulong Compute(nint memory, long bytes) => Parallel((byte*)memory, null, bytes);

    /// <summary>
    /// Copies, and hashes the copied bytes in the same pass over the memory. The buffers must not overlap.
    /// </summary>
    public static ulong CopyAndHash(nint source, nint destination, long bytes) =>
        Parallel((byte*)source, (byte*)destination, bytes);

    /// <summary>The definition in plain code: the reference of the fast paths and of the CUDA kernel.</summary>
    public static ulong Reference(ReadOnlySpan<byte> bytes)
    {
        ulong sum = 0;
        Span<byte> word = stackalloc byte[8];
        for (int at = 0, index = 0; at < bytes.Length; at += 8, index++)
        {
            word.Clear();
            bytes[at..Math.Min(at + 8, bytes.Length)].CopyTo(word);
            sum += Mix(BitConverter.ToUInt64(word) ^ (ulong)(index + 1) * Golden);
        }
        return sum;
    }

    /// <summary>The part of the sum that a piece of the buffer contributes; add the parts of all pieces.</summary>
    /// <param name="memory">The piece.</param>
    /// <param name="bytes">Length of the piece; a multiple of 8 for all but the last.</param>
    /// <param name="offset">Offset of the piece in the buffer, in bytes; a multiple of 8.</param>
    public static ulong Part(nint memory, long bytes, long offset) => Part((byte*)memory, null, bytes, offset);

    private static ulong Parallel(byte* source, byte* destination, long bytes)
    {
        long sum = 0;
        CpuParallel.For(
            checked((int)((bytes + ItemBytes - 1) / ItemBytes)),
            item =>
            {
                long offset = (long)item * ItemBytes;
                ulong part = Part(
                    source + offset,
                    destination == null ? null : destination + offset,
                    Math.Min(ItemBytes, bytes - offset),
                    offset
                );
                Interlocked.Add(ref sum, (long)part);
            }
        );
        return (ulong)sum;
    }

    private static ulong Part(byte* source, byte* destination, long bytes, long offset)
    {
        long whole = bytes / 64 * 8; // words in whole vectors
        long index = offset / 8;
        var key = Vector512.Create((ulong)(index + 1) * Golden) + Vector512.Create(0ul, 1, 2, 3, 4, 5, 6, 7) * Golden;
        var step = Vector512.Create(unchecked(8 * Golden));
        var sums = Vector512<ulong>.Zero;
        var from = (ulong*)source;

        // Whole vectors.
        if (destination == null)
            for (long i = 0; i < whole; i += 8, key += step)
                sums += Mix(Vector512.Load(from + i) ^ key);
        else if ((nint)destination % 64 == 0)
            // Past the cache: the copied weights aren't read again soon, and plain stores would read each line first.
            for (long i = 0; i < whole; i += 8, key += step)
            {
                var word = Vector512.Load(from + i);
                word.StoreAlignedNonTemporal((ulong*)destination + i);
                sums += Mix(word ^ key);
            }
        else
            for (long i = 0; i < whole; i += 8, key += step)
            {
                var word = Vector512.Load(from + i);
                word.Store((ulong*)destination + i);
                sums += Mix(word ^ key);
            }

        // The words that are left, the last of them padded with zeros.
        ulong sum = Vector512.Sum(sums);
        for (long at = whole * 8; at < bytes; at += 8)
        {
            ulong word = 0;
            int size = (int)Math.Min(8, bytes - at);
            Buffer.MemoryCopy(source + at, &word, 8, size);
            if (destination != null)
                Buffer.MemoryCopy(source + at, destination + at, size, size);
            sum += Mix(word ^ (ulong)(index + at / 8 + 1) * Golden);
        }
        return sum;
    }

    private static ulong Mix(ulong x)
    {
        x = (x ^ x >> 33) * First;
        x = (x ^ x >> 33) * Second;
        return x ^ x >> 33;
    }

    private static Vector512<ulong> Mix(Vector512<ulong> x)
    {
        x = (x ^ x >>> 33) * First;
        x = (x ^ x >>> 33) * Second;
        return x ^ x >>> 33;
    }
}
