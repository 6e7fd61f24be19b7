using System.Text.Json.Serialization;
using SimpleR1.Models;
using SimpleR1.Vllm.Serving;
using static TorchSharp.torch;

namespace SimpleR1.Vllm;

/// <summary>
/// vLLM's <c>update_info</c>: the tensors that the trainer sends now, in this order. Older versions set here whether
/// they are packed, newer ones in <see cref="InitInfo"/>.
/// </summary>
internal sealed record UpdateInfo(
    [property: JsonPropertyName("names")] IReadOnlyList<string> Names,
    [property: JsonPropertyName("dtype_names")] IReadOnlyList<string> TypeNames,
    [property: JsonPropertyName("shapes")] IReadOnlyList<long[]> Shapes
)
{
    private const long DefaultBufferBytes = 1L << 30;
    private static readonly Dictionary<string, ScalarType> Types = new()
    {
        ["float32"] = ScalarType.Float32,
        ["bfloat16"] = ScalarType.BFloat16,
        ["float16"] = ScalarType.Float16,
    };

    [JsonPropertyName("packed"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? Packed { get; init; }

    [JsonPropertyName("packed_buffer_size_bytes"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? PackedBufferBytes { get; init; }

    [JsonPropertyName("packed_num_buffers"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? PackedBuffers { get; init; }

    /// <summary>All tensors of these weights, unpacked, in the type in which they are held.</summary>
    public static UpdateInfo Of(FlatWeights weights)
    {
        var tensors = weights.Layout.CheckpointTensors;
        string type = Types.Single(t => t.Value == weights.Flat.dtype).Key;
        return new([.. tensors.Select(t => t.Name)], [.. tensors.Select(_ => type)], [.. tensors.Select(t => t.Shape)]);
    }

    /// <summary>
    /// The tensors in the pieces in which they are sent: one by one, or packed as this or the init call says.
    /// </summary>
    /// <inheritdoc cref="Resolve"/>
    public IReadOnlyList<WireTensor[]> Pieces(WeightLayout layout, InitInfo init)
    {
        var tensors = Resolve(layout);
        if (!(Packed ?? init.Packed ?? false))
            return [.. tensors.Select(t => new[] { t })];

        var pieces = new List<WireTensor[]>();
        long bufferBytes = PackedBufferBytes ?? init.PackedBufferBytes ?? DefaultBufferBytes;
        int next = 0;
        foreach (int count in Cut(tensors.Select(t => t.Bytes), bufferBytes))
        {
            pieces.Add([.. tensors.Skip(next).Take(count)]);
            next += count;
        }
        return pieces;
    }

    /// <summary>
    /// Finds the model's tensors. Null stands for a tied output matrix, which has no memory of its own.
    /// </summary>
    /// <exception cref="ArgumentException">
    /// Some tensors are not the model's, or have another shape or type; the message names all.
    /// </exception>
    private List<WireTensor> Resolve(WeightLayout layout)
    {
        // Each tensor has a name, a type and a shape.
        if (TypeNames.Count != Names.Count || Shapes.Count != Names.Count)
            throw new ArgumentException(
                "names, dtype_names and shapes must be equally many, "
                    + $"found {Names.Count}, {TypeNames.Count} and {Shapes.Count}"
            );

        // Look each up, and collect all problems.
        var known = layout.CheckpointTensors.ToDictionary(t => t.Name);
        var problems = new List<string>();
        var tensors = new List<WireTensor>();
        for (int i = 0; i < Names.Count; i++)
        {
            bool tied = layout.Config.TieEmbeddings && Names[i] == "lm_head.weight";
            if (!known.TryGetValue(tied ? "model.embed_tokens.weight" : Names[i], out var tensor))
                problems.Add($"'{Names[i]}': this model has no such tensor");
            else if (!tensor.Shape.SequenceEqual(Shapes[i]))
                problems.Add($"'{Names[i]}': expected shape {Text(tensor.Shape)}, found {Text(Shapes[i])}");
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

    private static string Text(long[] shape) => $"[{string.Join(", ", shape)}]";

    /// <summary>vLLM's cut of a packed stream: tensors are joined until they exceed the buffer's size.</summary>
    /// <returns>The number of tensors in each piece.</returns>
    public static IEnumerable<int> Cut(IEnumerable<long> sizes, long bufferBytes)
    {
        int count = 0;
        long bytes = 0;
        foreach (long size in sizes)
        {
            count++;
            bytes += size;
            if (bytes <= bufferBytes)
                continue;
            yield return count;
            count = 0;
            bytes = 0;
        }
        if (count > 0)
            yield return count;
    }
}
