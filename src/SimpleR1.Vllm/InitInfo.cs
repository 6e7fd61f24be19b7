using System.Text.Json.Serialization;

namespace SimpleR1.Vllm;

/// <summary>
/// vLLM's <c>init_info</c>: how to join the trainer's group. Null values are not written, because vLLM refuses fields
/// that its version does not have.
/// </summary>
/// <param name="RankOffset">The first rank of this server's workers.</param>
/// <param name="NcclUniqueIdB64">The group's id itself, instead of address and port.</param>
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
    /// <summary>
    /// Whether tensors are packed; newer versions of vLLM set it here, older ones in <see cref="UpdateInfo"/>.
    /// </summary>
    [JsonPropertyName("packed"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public bool? Packed { get; init; }

    [JsonPropertyName("packed_buffer_size_bytes"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public long? PackedBufferBytes { get; init; }

    /// <summary>Number of buffers that take turns; changes nothing on the wire.</summary>
    [JsonPropertyName("packed_num_buffers"), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? PackedBuffers { get; init; }
}
