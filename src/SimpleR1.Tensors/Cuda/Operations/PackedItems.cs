using System.Runtime.InteropServices;
using SimpleR1.Tensors.Operands;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Operations;

/// <summary>What each block of packed attention computes, on the device.</summary>
internal sealed class PackedItems : IDisposable
{
    /// <summary>Queries times heads of a group that a block computes.</summary>
    public const int TileRows = 64;
    public const int TileKeys = 64;

    /// <summary>Rows worth a part of the sums of their own.</summary>
    private const int LeastPart = 32 * TileRows;
    private const int TileBytes = 32;

    private readonly DeviceMemory memory;

    /// <param name="isTiled">For the kernels of the matrix unit; else for the plain ones, an item a token.</param>
    public PackedItems(CudaDevice gpu, PackedSequences sequences, bool isTiled)
    {
        Segments = sequences.Segments;
        Shape = sequences.Shape;
        IsTiled = isTiled;

        // The longest work first, so that no block is left alone at the end
        RowTile[] rows = isTiled ? [.. RowTiles(sequences).OrderByDescending(tile => tile.Work(Shape.Group))] : [];
        var sums = new List<Item>();
        KeyTile[] keys = isTiled ? [.. KeyTiles(sequences, sums).OrderByDescending(tile => tile.End - tile.Walk)] : [];
        Item[] last = isTiled ? [.. sums] : [.. Spans(sequences)];
        Parts = keys.Count(tile => tile.Part >= 0);

        byte[] bytes =
        [
            .. MemoryMarshal.AsBytes<RowTile>(rows),
            .. MemoryMarshal.AsBytes<KeyTile>(keys),
            .. MemoryMarshal.AsBytes<Item>(last),
        ];
        memory = gpu.Allocate(bytes.Length, "work items of attention");
        gpu.Write<byte>(memory.Pointer, bytes);
        var others = (last.Length, memory.Pointer + (rows.Length + keys.Length) * TileBytes);
        Rows = isTiled ? (rows.Length, memory.Pointer) : others;
        Keys = isTiled ? (keys.Length, memory.Pointer + rows.Length * TileBytes) : others;
        Sums = isTiled ? others : default;
    }

    /// <summary>Whether the matrix unit has kernels for a type and a size of heads.</summary>
    public static bool AreTiled(ScalarType type, AttentionShape shape) =>
        type != float32 && shape.HeadDimension is 64 or 128;

    private static IEnumerable<RowTile> RowTiles(PackedSequences sequences)
    {
        foreach (var segment in sequences.Segments)
        {
            var prefix = segment.Prefix < 0 ? default : sequences.Segments[segment.Prefix];
            for (int row = 0; row < segment.Count * sequences.Shape.Group; row += TileRows)
                yield return new()
                {
                    First = segment.First,
                    Tokens = segment.Count,
                    FirstRow = row,
                    Before = prefix.Count,
                    PrefixFirst = prefix.First,
                };
        }
    }

    /// <summary>
    /// Each tile of a segment's keys; a prefix's, which all rows of its family see, in parts that walk no more tokens than
    /// the longest segment has. One block for all of them would still run when all others have ended.
    /// </summary>
    /// <param name="sums">Becomes the tiles in parts.</param>
    private static IEnumerable<KeyTile> KeyTiles(PackedSequences sequences, List<Item> sums)
    {
        int longest = sequences.Segments.Select(s => s.Count).Append(LeastPart / sequences.Shape.Group).Max();
        int written = 0;
        foreach (var family in sequences.Families())
        {
            var members = sequences.Segments[family];
            foreach (var segment in members)
            {
                int end = (segment.Prefix < 0 ? members[^1].End : segment.End) - segment.First;
                for (int key = 0; key < segment.Count; key += TileKeys)
                {
                    int walked = CeilingOf(end - key, CeilingOf(end - key, longest));
                    int parts = CeilingOf(end - key, walked);
                    if (parts > 1)
                        sums.Add(new(segment.First + key, Math.Min(TileKeys, segment.Count - key), written, parts));
                    for (int walk = key; walk < end; walk += walked)
                        yield return new()
                        {
                            First = segment.First,
                            Tokens = segment.Count,
                            FirstKey = key,
                            Walk = walk,
                            End = Math.Min(walk + walked, end),
                            Part = parts > 1 ? written++ : -1,
                        };
                }
            }
        }
    }

    private static int CeilingOf(int dividend, int divisor) => (dividend + divisor - 1) / divisor;

    /// <summary>For each token: what it sees, and who sees it.</summary>
    private static IEnumerable<Item> Spans(PackedSequences sequences)
    {
        foreach (var family in sequences.Families())
        {
            var members = sequences.Segments[family];
            var root = members[0];
            for (int i = 0; i < members.Length; i++)
            {
                // The tokens that see a prefix follow each other, to the end of its family.
                int end = i == 0 ? members[^1].End : members[i].End;
                var span = new Item(members[i].First, root.First, i == 0 ? 0 : root.Count, end);
                for (int token = 0; token < members[i].Count; token++)
                    yield return span;
            }
        }
    }

    /// <summary>RowTile of PackedAttention.cuh.</summary>
    [StructLayout(LayoutKind.Sequential, Size = TileBytes)]
    private readonly record struct RowTile
    {
        public required int First { get; init; }
        public required int Tokens { get; init; }
        public required int FirstRow { get; init; }
        public required int Before { get; init; }
        public required int PrefixFirst { get; init; }

        /// <summary>Keys that the first row sees, times the group.</summary>
        public int Work(int group) => Before * group + FirstRow;
    }

    /// <summary>KeyTile of PackedAttentionGradient.cu.</summary>
    [StructLayout(LayoutKind.Sequential, Size = TileBytes)]
    private readonly record struct KeyTile
    {
        public required int First { get; init; }
        public required int Tokens { get; init; }
        public required int FirstKey { get; init; }
        public required int Walk { get; init; }
        public required int End { get; init; }
        public required int Part { get; init; }
    }

    /// <summary>
    /// An int4 of the kernels: {first token, keys, first part, parts} of a tile in parts; or {first token of the segment,
    /// first token of its prefix, tokens of that, end of the rows that see it} of a token.
    /// </summary>
    private readonly record struct Item(int First, int Second, int Third, int Fourth);

    public Segment[] Segments { get; }
    public AttentionShape Shape { get; }
    public bool IsTiled { get; }

    /// <summary>Of the kernels whose blocks own rows: how many items, and their address.</summary>
    public (int Count, nint Address) Rows { get; }

    /// <summary>Of the kernel whose blocks own keys.</summary>
    public (int Count, nint Address) Keys { get; }

    /// <summary>Of the kernel that adds up parts.</summary>
    public (int Count, nint Address) Sums { get; }

    /// <summary>Of all tiles in parts.</summary>
    public int Parts { get; }

    public void Dispose() => memory.Dispose();
}
