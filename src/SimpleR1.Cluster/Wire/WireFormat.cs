using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace SimpleR1.Cluster.Wire;

/// <summary>
/// How values travel between processes. Settings are JSON, because they are few and nested. Tokens and log-probs are raw bytes,
/// because they are many: Orleans serializes a byte[] 8 times faster than an int[].
/// </summary>
internal static class WireFormat
{
    public static readonly JsonSerializerOptions Json = new()
    {
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };

    public static byte[] ToBytes<T>(ReadOnlySpan<T> values)
        where T : unmanaged => MemoryMarshal.AsBytes(values).ToArray();

    public static T[] FromBytes<T>(byte[] bytes)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(bytes).ToArray();

    public static string ToJson<T>(T value) => JsonSerializer.Serialize(value, Json);

    /// <exception cref="JsonException">The text is not JSON of this type.</exception>
    public static T FromJson<T>(string json) =>
        JsonSerializer.Deserialize<T>(json, Json)
        ?? throw new JsonException($"null where a {typeof(T).Name} was expected");
}
