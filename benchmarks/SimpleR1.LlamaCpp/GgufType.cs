using System.Numerics.Tensors;

namespace SimpleR1.LlamaCpp;

/// <summary>An element type of a GGUF file, with ggml's number for it.</summary>
/// <param name="Name">As llama.cpp calls it.</param>
/// <param name="Number">ggml_type.</param>
/// <param name="Block">Elements that are stored together.</param>
/// <param name="BlockBytes">Bytes of a block.</param>
internal sealed record GgufType(string Name, uint Number, int Block, int BlockBytes)
{
    public static GgufType F32 { get; } = new("F32", 0, 1, 4);
    public static GgufType F16 { get; } = new("F16", 1, 1, 2);

    /// <summary>Blocks of 32 integers of 8 bits with one f16 scale.</summary>
    public static GgufType Q8 { get; } = new("Q8_0", 8, 32, 34);

    public static IReadOnlyList<GgufType> All { get; } = [F32, F16, Q8];

    public long Bytes(long elements) => elements / Block * BlockBytes;

    /// <summary>Numbers in this type; their count is a multiple of <see cref="Block"/>.</summary>
    public byte[] Encode(ReadOnlySpan<float> numbers)
    {
        var bytes = new byte[Bytes(numbers.Length)];
        for (int i = 0; i < numbers.Length / Block; i++)
            EncodeBlock(numbers.Slice(i * Block, Block), bytes.AsSpan(i * BlockBytes, BlockBytes));
        return bytes;
    }

    private void EncodeBlock(ReadOnlySpan<float> numbers, Span<byte> to)
    {
        if (this == F32)
            BitConverter.TryWriteBytes(to, numbers[0]);
        else if (this == F16)
            BitConverter.TryWriteBytes(to, (Half)numbers[0]);
        else
        {
            float scale = Math.Abs(TensorPrimitives.MaxMagnitude(numbers)) / 127;
            BitConverter.TryWriteBytes(to, (Half)scale);
            for (int i = 0; i < Block; i++)
                to[2 + i] = (byte)(sbyte)(scale == 0 ? 0 : MathF.Round(numbers[i] / scale));
        }
    }
}
