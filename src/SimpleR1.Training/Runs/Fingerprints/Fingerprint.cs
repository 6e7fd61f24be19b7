using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace SimpleR1.Training.Runs.Fingerprints;

/// <summary>
/// What a result was made from, as named values: settings in words, contents as hashes. Results of equal fingerprints
/// may stand for each other. In JSON it is an object of texts.
/// </summary>
[JsonConverter(typeof(Converter))]
public sealed class Fingerprint(IEnumerable<KeyValuePair<string, string>> values) : IEquatable<Fingerprint>
{
    private const int LongestShown = 100;
    private readonly ImmutableSortedDictionary<string, string> values = values.ToImmutableSortedDictionary(
        StringComparer.Ordinal
    );

    /// <summary>The value of this name; null without one.</summary>
    public string? this[string name] => values.GetValueOrDefault(name);

    /// <summary>Names whose values differ, or that only one of the two has, in order.</summary>
    public IReadOnlyList<string> Differences(Fingerprint other) =>
        [
            .. values
                .Keys.Union(other.values.Keys, StringComparer.Ordinal)
                .Where(name => this[name] != other[name])
                .Order(StringComparer.Ordinal),
        ];

    public bool Equals(Fingerprint? other) => other is not null && Differences(other).Count == 0;

    public override bool Equals(object? other) => Equals(other as Fingerprint);

    public override int GetHashCode() => values.Aggregate(0, (hash, p) => HashCode.Combine(hash, p.Key, p.Value));

    /// <summary>One name's change in words: "problems: 32, 0f3a… → 64, 91bc…".</summary>
    /// <param name="now">The fingerprint that this one is compared with.</param>
    public string Change(string name, Fingerprint now) => $"{name}: {Shown(this[name])} → {Shown(now[name])}";

    /// <summary>A hash of texts in their order: 16 hexadecimal digits of SHA-256.</summary>
    public static string Hash(IEnumerable<string> texts)
    {
        using var sha = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        Span<byte> length = stackalloc byte[sizeof(int)];
        foreach (string text in texts)
        {
            byte[] bytes = Encoding.UTF8.GetBytes(text);
            BinaryPrimitives.WriteInt32LittleEndian(length, bytes.Length); // "ab", "c" is not "a", "bc"
            sha.AppendData(length);
            sha.AppendData(bytes);
        }
        return Short(sha.GetHashAndReset());
    }

    /// <inheritdoc cref="Hash(IEnumerable{string})"/>
    public static string Hash(ReadOnlySpan<byte> bytes) => Short(SHA256.HashData(bytes));

    private static string Short(byte[] hash) => Convert.ToHexStringLower(hash.AsSpan(0, 8));

    private static string Shown(string? value) =>
        value switch
        {
            null => "(none)",
            { Length: > LongestShown } => value[..LongestShown] + "…",
            _ => value,
        };

    private sealed class Converter : JsonConverter<Fingerprint>
    {
        public override Fingerprint Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
            new(
                JsonSerializer.Deserialize<Dictionary<string, string>>(ref reader, options)
                    ?? throw new JsonException("expected a fingerprint, found null")
            );

        public override void Write(Utf8JsonWriter writer, Fingerprint value, JsonSerializerOptions options) =>
            JsonSerializer.Serialize(writer, value.values, options);
    }
}
