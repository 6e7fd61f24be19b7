using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace SimpleR1.Models.Checkpoints;

/// <summary>
/// Writes f32 values as safetensors files, converted to the type asked for, streamed and flushed to the disk.
/// </summary>
public static unsafe class SafetensorsWriter
{
    private const int ChunkElements = 1 << 20;

    /// <summary>A tensor to write.</summary>
    /// <param name="Values">Address of the f32 values, as many as <c>Shape</c>'s product.</param>
    public sealed record Source(string Name, long[] Shape, nint Values)
    {
        public long Length => Shape.Aggregate(1L, (a, b) => checked(a * b));
    }

    /// <summary>
    /// Writes <c>model.safetensors</c>, or several shards of at most <paramref name="shardBytes"/> and their index.
    /// </summary>
    public static void WriteFolder(
        string folder,
        IReadOnlyList<Source> tensors,
        WeightType type,
        long shardBytes = 5_000_000_000
    )
    {
        var shards = Shards(tensors, type, shardBytes);
        if (shards.Count == 1)
        {
            Write(Path.Combine(folder, "model.safetensors"), tensors, type);
            return;
        }

        var map = new JsonObject();
        for (int i = 0; i < shards.Count; i++)
        {
            string name = $"model-{i + 1:D5}-of-{shards.Count:D5}.safetensors";
            Write(Path.Combine(folder, name), shards[i], type);
            foreach (var tensor in shards[i])
                map[tensor.Name] = name;
        }

        long totalSize = tensors.Sum(t => t.Length) * NumberConversion.Size(type);
        var index = new JsonObject
        {
            ["metadata"] = new JsonObject { ["total_size"] = totalSize },
            ["weight_map"] = map,
        };
        File.WriteAllText(
            Path.Combine(folder, "model.safetensors.index.json"),
            index.ToJsonString(new JsonSerializerOptions { WriteIndented = true })
        );
    }

    /// <summary>Writes one file.</summary>
    public static void Write(string path, IReadOnlyList<Source> tensors, WeightType type)
    {
        byte[] header = Header(tensors, type);
        int padded = (header.Length + 7) / 8 * 8; // the data starts aligned
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 20);
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(length, (ulong)padded);
        file.Write(length);
        file.Write(header);
        for (int i = header.Length; i < padded; i++)
            file.WriteByte((byte)' ');

        var buffer = new byte[ChunkElements * sizeof(float)];
        foreach (var tensor in tensors)
            WriteValues(file, tensor, type, buffer);
        file.Flush(flushToDisk: true);
    }

    private static List<List<Source>> Shards(IReadOnlyList<Source> tensors, WeightType type, long shardBytes)
    {
        var shards = new List<List<Source>> { new() };
        long inShard = 0;
        foreach (var tensor in tensors)
        {
            long bytes = tensor.Length * NumberConversion.Size(type);
            if (inShard > 0 && inShard + bytes > shardBytes)
            {
                shards.Add([]);
                inShard = 0;
            }

            shards[^1].Add(tensor);
            inShard += bytes;
        }

        return shards;
    }

    private static byte[] Header(IReadOnlyList<Source> tensors, WeightType type)
    {
        var header = new JsonObject { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        long begin = 0;
        foreach (var tensor in tensors)
        {
            long end = checked(begin + tensor.Length * NumberConversion.Size(type));
            header[tensor.Name] = new JsonObject
            {
                ["dtype"] = type.ToString(),
                ["shape"] = new JsonArray([.. tensor.Shape.Select(n => (JsonNode)n)]),
                ["data_offsets"] = new JsonArray(begin, end),
            };
            begin = end;
        }

        return JsonSerializer.SerializeToUtf8Bytes(header);
    }

    private static void WriteValues(FileStream file, Source tensor, WeightType type, byte[] buffer)
    {
        for (long first = 0; first < tensor.Length; first += ChunkElements)
        {
            int count = (int)Math.Min(ChunkElements, tensor.Length - first);
            fixed (byte* converted = buffer)
                NumberConversion.Convert(
                    (byte*)((float*)tensor.Values + first),
                    WeightType.F32,
                    converted,
                    type,
                    count
                );
            file.Write(buffer, 0, count * NumberConversion.Size(type));
        }
    }
}
