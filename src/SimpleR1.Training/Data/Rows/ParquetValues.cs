using System.Globalization;
using System.Numerics;
using System.Text.Json.Nodes;
using Parquet.Data;
using Parquet.File.Values.Primitives;
using Parquet.Schema;

namespace SimpleR1.Training.Data.Rows;

/// <summary>
/// Values of Parquet's types as JSON: numbers as JSON writes them, dates and times in ISO 8601, bytes as
/// <c>byte[]</c>, which JSON shows as Base64.
/// </summary>
internal static class ParquetValues
{
    /// <param name="count">Number of values that are there; null for all.</param>
    /// <exception cref="NotSupportedException">The type is not known.</exception>
    public static JsonNode?[] Convert(RawColumnData data, DataField field, int? count) =>
        Numbers(data, field, count)
        ?? Texts(data, field, count)
        ?? throw new NotSupportedException(
            $"values of type {field.ClrType} have no place in a row; convert the column, or leave it out"
        );

    /// <summary>Null when the column holds no numbers.</summary>
    private static JsonNode?[]? Numbers(RawColumnData data, DataField field, int? count) =>
        data switch
        {
            RawColumnData<bool> c => All(c, count, v => JsonValue.Create(v)),
            RawColumnData<sbyte> c => All(c, count, v => Whole(v)),
            RawColumnData<byte> c => All(c, count, v => Whole(v)),
            RawColumnData<short> c => All(c, count, v => Whole(v)),
            RawColumnData<ushort> c => All(c, count, v => Whole(v)),
            RawColumnData<int> c => All(c, count, v => Time(field, v) ?? Whole(v)),
            RawColumnData<uint> c => All(c, count, v => Whole(v)),
            RawColumnData<long> c => All(c, count, v => Time(field, v) ?? Whole(v)),
            RawColumnData<ulong> c => All(c, count, v => Whole(v)),
            RawColumnData<BigInteger> c => All(c, count, v => Whole(v)),
            RawColumnData<float> c => All(c, count, v => Real(float.IsFinite(v), v)),
            RawColumnData<double> c => All(c, count, v => Real(double.IsFinite(v), v)),
            RawColumnData<Half> c => All(c, count, v => Real(Half.IsFinite(v), v)),
            RawColumnData<decimal> c => All(c, count, v => Whole(v)),
            RawColumnData<BigDecimal> c => All(c, count, v => JsonText.Number(Digits(v))),
            _ => null,
        };

    /// <summary>Null when the column holds neither text nor something that JSON shows as text.</summary>
    private static JsonNode?[]? Texts(RawColumnData data, DataField field, int? count) =>
        data switch
        {
            RawColumnData<ReadOnlyMemory<char>> c => All(c, count, v => JsonValue.Create(new string(v.Span))),
            RawColumnData<ReadOnlyMemory<byte>> c => All(c, count, v => Bytes(field, v.ToArray())),
            RawColumnData<DateOnly> c => All(c, count, v => JsonValue.Create(v.ToString("O"))),
            RawColumnData<DateTime> c => All(c, count, v => JsonValue.Create(Date(field, v))),
            RawColumnData<TimeOnly> c => All(c, count, v => JsonValue.Create(Time(v.Ticks))),
            RawColumnData<TimeSpan> c => All(c, count, v => JsonValue.Create(Time(v.Ticks))),
            RawColumnData<Guid> c => All(c, count, v => JsonValue.Create(v.ToString())),
            RawColumnData<Interval> c => All(c, count, v => JsonValue.Create(Duration(v))),
            _ => null,
        };

    private static JsonNode?[] All<T>(RawColumnData<T> data, int? count, Func<T, JsonNode?> convert)
        where T : struct
    {
        var values = data.Values;
        var converted = new JsonNode?[count ?? values.Length];
        for (int i = 0; i < converted.Length; i++)
            converted[i] = convert(values[i]);
        return converted;
    }

    private static JsonNode Whole<T>(T value)
        where T : IFormattable => JsonText.Number(value.ToString(null, CultureInfo.InvariantCulture));

    /// <summary>The shortest text that reads as the same number, 145.0 with its point; null for NaN and infinities.</summary>
    private static JsonNode? Real<T>(bool isFinite, T value)
        where T : IFormattable
    {
        if (!isFinite)
            return null;
        string text = value.ToString("R", CultureInfo.InvariantCulture);
        return JsonText.Number(text.AsSpan().ContainsAny('.', 'E') ? text : text + ".0");
    }

    /// <summary>All digits of a decimal, those after the point as many as its type has.</summary>
    private static string Digits(BigDecimal value)
    {
        string digits = BigInteger.Abs(value.UnscaledValue).ToString(CultureInfo.InvariantCulture);
        string sign = value.UnscaledValue.Sign < 0 ? "-" : "";
        if (value.Scale <= 0)
            return sign + digits + (digits == "0" ? "" : new string('0', -value.Scale));
        digits = digits.PadLeft(value.Scale + 1, '0');
        return $"{sign}{digits[..^value.Scale]}.{digits[^value.Scale..]}";
    }

    /// <summary>A JSON column holds values of its own.</summary>
    private static JsonNode? Bytes(DataField field, byte[] bytes) =>
        field.SchemaElement?.ConvertedType == Parquet.Meta.ConvertedType.JSON
            ? JsonText.Parse(bytes)
            : JsonValue.Create(bytes);

    private static string Date(DataField field, DateTime value)
    {
        string text = value.ToString("yyyy-MM-dd'T'HH:mm:ss.FFFFFFF", CultureInfo.InvariantCulture);
        return field is DateTimeDataField { IsAdjustedToUTC: true } ? text + "Z" : text;
    }

    /// <summary>A time of the day, for a column of that type; else null.</summary>
    private static JsonNode? Time(DataField field, long value)
    {
        if (field is not TimeDataField time)
            return null;
        return JsonValue.Create(
            time.Precision switch
            {
                TimeUnitPrecision.Millis => Time(value * TimeSpan.TicksPerMillisecond),
                TimeUnitPrecision.Micros => Time(value * TimeSpan.TicksPerMicrosecond),
                _ => Time(value / TimeSpan.NanosecondsPerTick),
            }
        );
    }

    private static string Time(long ticks) =>
        new TimeOnly(ticks).ToString("HH:mm:ss.FFFFFFF", CultureInfo.InvariantCulture);

    /// <summary>A duration in ISO 8601: P1M3DT0.5S.</summary>
    private static string Duration(Interval value) =>
        string.Create(CultureInfo.InvariantCulture, $"P{value.Months}M{value.Days}DT{value.Millis / 1000.0}S");
}
