using System.Text.Json.Serialization;
using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Vllm.Rendezvous;
using static TorchSharp.torch;

namespace SimpleR1.Vllm;

/// <summary>vLLM's <c>init_info</c>: how to join the trainer's group. What is null is not written: vLLM refuses fields that its version does not have.</summary>
/// <param name="RankOffset">The first rank of this server's workers.</param>
/// <param name="NcclUniqueIdB64">Instead of address and port: the group's id itself.</param>
internal sealed record InitInfo(
    [property: JsonPropertyName("master_address"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
        string? MasterAddress,
    [property: JsonPropertyName("master_port"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
        int? MasterPort,
    [property: JsonPropertyName("rank_offset")] int RankOffset,
    [property: JsonPropertyName("world_size")] int WorldSize,
    [property: JsonPropertyName("nccl_unique_id_b64"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
        string? NcclUniqueIdB64 = null
)
{
    [JsonPropertyName("packed"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? Packed { get; init; }

    [JsonPropertyName("packed_buffer_size_bytes"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? PackedBufferBytes { get; init; }

    /// <summary>How many buffers take turns; changes nothing on the wire.</summary>
    [JsonPropertyName("packed_num_buffers"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? PackedBuffers { get; init; }
}

/// <summary>vLLM's <c>update_info</c>: the tensors that the trainer sends now, in this order. Older versions say here whether they are packed, newer ones at the start.</summary>
internal sealed record UpdateInfo(
    [property: JsonPropertyName("names")] IReadOnlyList<string> Names,
    [property: JsonPropertyName("dtype_names")] IReadOnlyList<string> TypeNames,
    [property: JsonPropertyName("shapes")] IReadOnlyList<long[]> Shapes
)
{
    private const long DefaultBufferBytes = 1L << 30;
    private static readonly Dictionary<string, ScalarType> Types = ElementType.All.ToDictionary(
        t => t.TorchName,
        t => t.Scalar
    );

    [JsonPropertyName("packed"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? Packed { get; init; }

    [JsonPropertyName("packed_buffer_size_bytes"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? PackedBufferBytes { get; init; }

    [JsonPropertyName("packed_num_buffers"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? PackedBuffers { get; init; }

    /// <summary>All tensors of these weights, each by itself, in the type in which they are held.</summary>
    public static UpdateInfo Of(FlatWeights weights)
    {
        var tensors = weights.Layout.CheckpointTensors;
        string type = Types.Single(t => t.Value == weights.Flat.dtype).Key;
        return new([.. tensors.Select(t => t.Name)], [.. tensors.Select(_ => type)], [.. tensors.Select(t => t.Shape)]);
    }

    /// <summary>The tensors in the pieces in which they come: each by itself, or packed as this or the init call says.</summary>
    /// <inheritdoc cref="Resolve"/>
    public IReadOnlyList<WireTensor[]> Pieces(WeightLayout layout, InitInfo init)
    {
        var tensors = Resolve(layout);
        if (!(Packed ?? init.Packed ?? false))
            return [.. tensors.Select(t => new[] { t })];
        var pieces = new List<WireTensor[]>();
        int next = 0;
        foreach (
            int count in Cut(
                tensors.Select(t => t.Bytes),
                PackedBufferBytes ?? init.PackedBufferBytes ?? DefaultBufferBytes
            )
        )
        {
            pieces.Add([.. tensors.Skip(next).Take(count)]);
            next += count;
        }
        return pieces;
    }

    /// <summary>Which tensors of the model these are. Null stands for a tied output matrix, which has no place of its own.</summary>
    /// <exception cref="ArgumentException">Some are none of the model's, or of another shape or type; all are named.</exception>
    private List<WireTensor> Resolve(WeightLayout layout)
    {
        if (TypeNames.Count != Names.Count || Shapes.Count != Names.Count)
            throw new ArgumentException(
                $"names, dtype_names and shapes must be equally many, found {Names.Count}, {TypeNames.Count} and {Shapes.Count}"
            );
        var known = layout.CheckpointTensors.ToDictionary(t => t.Name);
        var problems = new List<string>();
        var tensors = new List<WireTensor>();
        for (int i = 0; i < Names.Count; i++)
        {
            bool tied = layout.Config.TieEmbeddings && Names[i] == "lm_head.weight";
            if (!known.TryGetValue(tied ? "model.embed_tokens.weight" : Names[i], out var tensor))
                problems.Add($"'{Names[i]}': this model has no such tensor");
            else if (!tensor.Shape.SequenceEqual(Shapes[i]))
                problems.Add(
                    $"'{Names[i]}': expected shape [{string.Join(", ", tensor.Shape)}], found [{string.Join(", ", Shapes[i])}]"
                );
            else if (!Types.TryGetValue(TypeNames[i], out var type))
                problems.Add($"'{Names[i]}': expected dtype float32, bfloat16 or float16, found '{TypeNames[i]}'");
            else
                tensors.Add(new(tied ? null : tensor, type, tensor.Length));
        }
        if (problems.Count == 0)
            return tensors;
        throw new ArgumentException(
            "the tensors do not fit the model: "
                + string.Join("; ", problems.Take(10))
                + (problems.Count > 10 ? $"; and {problems.Count - 10} more" : "")
        );
    }

    /// <summary>vLLM's cut of a packed stream: tensors are put together until they are more than the buffer's size.</summary>
    /// <returns>How many tensors each piece has.</returns>
    public static IEnumerable<int> Cut(IEnumerable<long> sizes, long bufferBytes)
    {
        var (count, bytes) = (0, 0L);
        foreach (long size in sizes)
        {
            (count, bytes) = (count + 1, bytes + size);
            if (bytes <= bufferBytes)
                continue;
            yield return count;
            (count, bytes) = (0, 0);
        }
        if (count > 0)
            yield return count;
    }
}
