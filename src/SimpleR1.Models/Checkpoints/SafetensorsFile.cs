using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Text.Json;
using SimpleR1.Models.Json;
using SimpleR1.Tensors;

namespace SimpleR1.Models.Checkpoints;

/// <summary>Element types of weights on disk.</summary>
public enum WeightType
{
    F32,
    F16,
    BF16,
}

/// <summary>A tensor of a safetensors file.</summary>
/// <param name="Begin">First byte of the data, counted from the end of the header.</param>
public sealed record SafetensorsEntry(string Name, string Type, long[] Shape, long Begin, long End)
{
    public long Length => Shape.Aggregate(1L, (a, b) => checked(a * b));
}

/// <summary>
/// A memory-mapped safetensors file. Its header is checked by the rules of the format before any tensor is read.
/// </summary>
public sealed unsafe class SafetensorsFile : IDisposable
{
    private const long MaxHeader = 100_000_000;
    private static readonly Dictionary<string, int> TypeSizes = new()
    {
        ["F64"] = 8,
        ["F32"] = 4,
        ["F16"] = 2,
        ["BF16"] = 2,
        ["I64"] = 8,
        ["I32"] = 4,
        ["I16"] = 2,
        ["I8"] = 1,
        ["U8"] = 1,
        ["BOOL"] = 1,
        ["F8_E4M3"] = 1,
        ["F8_E5M2"] = 1,
    };

    private readonly MemoryMappedFile file;
    private readonly MemoryMappedViewAccessor view;
    private readonly byte* data;

    private SafetensorsFile(string path, MemoryMappedFile file, MemoryMappedViewAccessor view, byte* start, long length)
    {
        Path = path;
        this.file = file;
        this.view = view;

        if (length < 8)
            throw Bad($"the file has {length} bytes; a header length of 8 bytes is the least");
        ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(new(start, 8));
        if (headerLength > MaxHeader)
            throw Bad($"the header claims {headerLength} bytes; the format allows {MaxHeader}");
        if (8 + (long)headerLength > length)
            throw Bad($"the header claims {headerLength} bytes, the file has {length}: it is truncated");
        if (headerLength < 2 || start[8] != '{')
            throw Bad("the header does not start with '{'");

        data = start + 8 + headerLength;
        Entries = ReadHeader(
            new ReadOnlySpan<byte>(start + 8, (int)headerLength).ToArray(),
            length - 8 - (long)headerLength
        );
    }

    public string Path { get; }
    public IReadOnlyDictionary<string, SafetensorsEntry> Entries { get; }

    /// <exception cref="InvalidDataException">The file breaks a rule of the format; named, with the tensor.</exception>
    public static SafetensorsFile Open(string path)
    {
        var (file, length) = Map(path);
        var view = file.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        byte* start = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        try
        {
            return new(path, file, view, start, length);
        }
        catch
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
            view.Dispose();
            file.Dispose();
            throw;
        }
    }

    /// <summary>Maps a file, whose length is that of what a link leads to.</summary>
    private static (MemoryMappedFile File, long Length) Map(string path)
    {
        FileStream? stream = null;
        try
        {
            stream = File.OpenRead(path);
            if (stream.Length == 0)
                throw new InvalidDataException($"{path}: the file is empty");
            var beginning = new byte[Math.Min(stream.Length, 64)];
            stream.ReadExactly(beginning);
            LfsPointer.Refuse(path, beginning);

            var access = MemoryMappedFileAccess.Read;
            var file = MemoryMappedFile.CreateFromFile(
                stream,
                null,
                0,
                access,
                HandleInheritability.None,
                leaveOpen: false
            );
            return (file, stream.Length);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            stream?.Dispose();
            throw new InvalidDataException($"{path}: can't be read: {e.Message}", e);
        }
        catch
        {
            stream?.Dispose();
            throw;
        }
    }

    /// <summary>How many of a tensor's elements are NaN or infinite, in parallel.</summary>
    internal long CountNotFinite(SafetensorsEntry entry)
    {
        var (from, type) = Data(entry);
        return NumberConversion.CountNotFinite((byte*)from, type, entry.Length);
    }

    /// <summary>Copies a tensor's elements, converted to f32, in parallel.</summary>
    /// <param name="to">Room for the entry's elements.</param>
    public void Read(SafetensorsEntry entry, float* to) => Read(entry, (nint)to, WeightType.F32);

    /// <summary>Copies a tensor's elements, converted, in parallel.</summary>
    /// <param name="to">Room for the entry's elements in the type.</param>
    internal void Read(SafetensorsEntry entry, nint to, WeightType toType)
    {
        var (from, type) = Data(entry);
        NumberConversion.ConvertAll((byte*)from, type, (byte*)to, toType, entry.Length);
    }

    /// <summary>Copies a tensor's elements to a GPU, converted.</summary>
    internal void Read(SafetensorsEntry entry, DeviceUpload upload, nint to, WeightType toType)
    {
        var (from, type) = Data(entry);
        upload.Write((byte*)from, type, to, toType, entry.Length);
    }

    private (nint Data, WeightType Type) Data(SafetensorsEntry entry) =>
        (
            (nint)(data + entry.Begin),
            ElementType.All.Any(t => t.SafetensorsName == entry.Type)
                ? Enum.Parse<WeightType>(entry.Type)
                : throw Bad($"tensor '{entry.Name}': dtype {entry.Type} is not supported (F32, F16 and BF16 are)")
        );

    /// <summary>The stored bytes of a tensor of less than 2 GiB.</summary>
    public ReadOnlySpan<byte> Bytes(SafetensorsEntry entry) =>
        new(data + entry.Begin, checked((int)(entry.End - entry.Begin)));

    private Dictionary<string, SafetensorsEntry> ReadHeader(byte[] json, long dataLength)
    {
        var entries = new Dictionary<string, SafetensorsEntry>();
        try
        {
            using var document = JsonDocument.Parse(json);
            foreach (var property in document.RootElement.EnumerateObject().Where(p => p.Name != "__metadata__"))
            {
                var entry = ReadEntry(property);
                if (!entries.TryAdd(entry.Name, entry))
                    throw Bad($"tensor '{entry.Name}' appears twice in the header");
                Check(entry);
            }
        }
        catch (Exception e)
            when (e
                    is JsonException
                        or InvalidOperationException
                        or KeyNotFoundException
                        or FormatException
                        or IndexOutOfRangeException
            )
        {
            throw Bad($"the header is not valid: {e.Message}");
        }

        CheckOrder(entries.Values, dataLength);
        return entries;
    }

    private static SafetensorsEntry ReadEntry(JsonProperty property)
    {
        var shape = property.Value.GetProperty("shape").EnumerateArray().Select(e => e.GetInt64());
        var offsets = property.Value.GetProperty("data_offsets");
        string type = property.Value.GetProperty("dtype").GetString() ?? "";
        return new(property.Name, type, [.. shape], offsets[0].GetInt64(), offsets[1].GetInt64());
    }

    /// <summary>Tensors must fill the data without gap or overlap.</summary>
    private void CheckOrder(IEnumerable<SafetensorsEntry> entries, long dataLength)
    {
        long end = 0;
        foreach (var entry in entries.OrderBy(e => e.Begin).ThenBy(e => e.End))
        {
            if (entry.Begin != end)
                throw Bad(
                    $"tensor '{entry.Name}' starts at byte {entry.Begin}, expected {end}: "
                        + "tensors must follow each other without gap or overlap"
                );
            end = entry.End;
        }

        if (end > dataLength)
            throw Bad($"the tensors need {end} bytes, the file holds {dataLength}: it is truncated");
        if (end < dataLength)
            throw Bad($"{dataLength - end} bytes after the last tensor belong to none");
    }

    private void Check(SafetensorsEntry entry)
    {
        if (!TypeSizes.TryGetValue(entry.Type, out int size))
            throw Bad($"tensor '{entry.Name}': unknown dtype '{entry.Type}'");
        try
        {
            if (
                entry.Shape.Any(n => n < 0)
                || entry.Begin < 0
                || checked(entry.Length * size) != entry.End - entry.Begin
            )
                throw Bad(
                    $"tensor '{entry.Name}': shape [{string.Join(", ", entry.Shape)}] of {entry.Type} "
                        + $"does not fill bytes {entry.Begin} to {entry.End}"
                );
        }
        catch (OverflowException)
        {
            throw Bad($"tensor '{entry.Name}': shape [{string.Join(", ", entry.Shape)}] is too large");
        }
    }

    private InvalidDataException Bad(string problem) => new($"{Path}: {problem}");

    public void Dispose()
    {
        view.SafeMemoryMappedViewHandle.ReleasePointer();
        view.Dispose();
        file.Dispose();
    }
}
