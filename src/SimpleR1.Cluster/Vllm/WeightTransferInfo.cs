using System.Text.Json.Serialization;
using SimpleR1.Models;

namespace SimpleR1.Cluster.Vllm;

/// <summary>vLLM's <c>init_info</c>: how to join the trainer's group.</summary>
/// <param name="RankOffset">The first rank of this server's workers.</param>
/// <param name="NcclUniqueIdB64">Instead of address and port: the group's id itself.</param>
internal sealed record InitInfo(
    [property: JsonPropertyName("master_address"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? MasterAddress,
    [property: JsonPropertyName("master_port"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? MasterPort,
    [property: JsonPropertyName("rank_offset")] int RankOffset,
    [property: JsonPropertyName("world_size")] int WorldSize,
    [property: JsonPropertyName("nccl_unique_id_b64"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? NcclUniqueIdB64 = null)
{
    [JsonPropertyName("packed")] public bool Packed { get; init; }
    [JsonPropertyName("packed_buffer_size_bytes")] public long PackedBufferBytes { get; init; } = 1L << 30;
    /// <summary>How many buffers take turns; changes nothing on the wire.</summary>
    [JsonPropertyName("packed_num_buffers")] public int PackedBuffers { get; init; } = 2;
}

/// <summary>vLLM's <c>update_info</c>: the tensors that the trainer sends now, in this order. Older versions say here whether they are packed, newer ones at the start.</summary>
internal sealed record UpdateInfo(
    [property: JsonPropertyName("names")] IReadOnlyList<string> Names,
    [property: JsonPropertyName("dtype_names")] IReadOnlyList<string> TypeNames,
    [property: JsonPropertyName("shapes")] IReadOnlyList<long[]> Shapes)
{
    [JsonPropertyName("packed")] public bool? Packed { get; init; }
    [JsonPropertyName("packed_buffer_size_bytes")] public long? PackedBufferBytes { get; init; }
    [JsonPropertyName("packed_num_buffers")] public int? PackedBuffers { get; init; }

    /// <summary>Which tensors of the model these are, and the bytes of each on the wire. Null stands for a tied output matrix, which has no place of its own.</summary>
    /// <exception cref="ArgumentException">Some are none of the model's, or of another shape or type; all are named.</exception>
    public IReadOnlyList<(CheckpointTensor? Tensor, WireType Type, long Bytes)> Resolve(WeightLayout layout)
    {
        if (TypeNames.Count != Names.Count || Shapes.Count != Names.Count)
            throw new ArgumentException($"names, dtype_names and shapes must be equally many, found {Names.Count}, {TypeNames.Count} and {Shapes.Count}");
        var known = layout.CheckpointTensors.ToDictionary(t => t.Name);
        var problems = new List<string>();
        var tensors = new List<(CheckpointTensor?, WireType, long)>();
        for (int i = 0; i < Names.Count; i++)
        {
            long length = Shapes[i].Aggregate(1L, (a, b) => checked(a * b));
            bool tied = layout.Config.TieEmbeddings && Names[i] == "lm_head.weight";
            if (!known.TryGetValue(Names[i], out var tensor) && !tied) problems.Add($"'{Names[i]}': this model has no such tensor");
            else if (tensor is not null && !tensor.Shape.SequenceEqual(Shapes[i])) problems.Add($"'{Names[i]}': expected shape [{string.Join(", ", tensor.Shape)}], found [{string.Join(", ", Shapes[i])}]");
            WireType? type = TypeNames[i] switch { "float32" => WireType.Float32, "bfloat16" => WireType.BFloat16, "float16" => WireType.Float16, _ => null };
            if (type is null) problems.Add($"'{Names[i]}': expected dtype float32, bfloat16 or float16, found '{TypeNames[i]}'");
            else tensors.Add((tensor, type.Value, length * (type == WireType.Float32 ? 4 : 2)));
        }
        if (problems.Count == 0) return tensors;
        throw new ArgumentException("the tensors do not fit the model: " + string.Join("; ", problems.Take(10)) + (problems.Count > 10 ? $"; and {problems.Count - 10} more" : ""));
    }

    /// <summary>vLLM's cut of a packed stream: tensors are put together until they are more than the buffer's size.</summary>
    /// <returns>How many tensors each piece has.</returns>
    public static IEnumerable<int> Pieces(IEnumerable<long> sizes, long bufferBytes)
    {
        var (count, bytes) = (0, 0L);
        foreach (long size in sizes)
        {
            (count, bytes) = (count + 1, bytes + size);
            if (bytes <= bufferBytes) continue;
            yield return count;
            (count, bytes) = (0, 0);
        }
        if (count > 0) yield return count;
    }
}

internal enum WireType { Float32, BFloat16, Float16 }
