using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace SimpleR1.Training.Runs.Files;

/// <summary>A file of one JSON object a line, each with its step. Every line is on disk before the next step.</summary>
public sealed class JsonLines : IDisposable
{
    private static readonly JsonSerializerOptions Readable = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, // rollouts stay readable
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals, // NaN is written as "NaN"
    };

    private readonly StreamWriter writer;

    /// <summary>
    /// Opens or creates a file. Rows past <paramref name="keepThrough"/> are removed: the run that wrote them had
    /// continued after the checkpoint that it resumes from. Null starts empty.
    /// </summary>
    public JsonLines(string path, int? keepThrough = null)
    {
        if (keepThrough is { } last && File.Exists(path))
            Cut(path, last);
        else
            File.WriteAllText(path, "");
        writer = new StreamWriter(path, append: true, new UTF8Encoding(false));
    }

    /// <summary>Appends a row and flushes it.</summary>
    public void Write(JsonObject row)
    {
        if (!row.ContainsKey("step"))
            throw new ArgumentException("a row needs its 'step'");
        writer.WriteLine(row.ToJsonString(Readable));
        writer.Flush();
    }

    /// <summary>A value for a row; NaN and infinity become text, which JSON has no number for.</summary>
    public static JsonNode Number(double value) =>
        double.IsFinite(value)
            ? JsonValue.Create(value)
            : JsonValue.Create(value.ToString(System.Globalization.CultureInfo.InvariantCulture));

    /// <summary>A row's number; null where it has none by this name.</summary>
    public static double? NumberOf(JsonObject row, string name) =>
        row[name] is JsonValue value && value.GetValueKind() == JsonValueKind.Number ? (double)value : null;

    /// <summary>All complete rows of a file, without a last line that a crash cut short.</summary>
    /// <exception cref="InvalidDataException">A line before the last is not a JSON object.</exception>
    public static IEnumerable<JsonObject> Read(string path)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite); // a run may be writing it
        using var reader = new StreamReader(file);
        string[] lines = reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        for (int i = 0; i < lines.Length; i++)
        {
            JsonObject? row = null;
            try
            {
                row = JsonNode.Parse(lines[i]) as JsonObject;
            }
            catch (JsonException) when (i == lines.Length - 1)
            {
                yield break;
            }
            catch (JsonException e)
            {
                throw new InvalidDataException($"{path}:{i + 1}: not valid JSON: {e.Message}", e);
            }
            yield return row ?? throw new InvalidDataException($"{path}:{i + 1}: expected a JSON object");
        }
    }

    public void Dispose() => writer.Dispose();

    private static void Cut(string path, int keepThrough) =>
        Keep(path, row => row["step"] is { } step && (int)step <= keepThrough);

    /// <summary>Removes the other rows of a file that nobody is writing.</summary>
    internal static void Keep(string path, Predicate<JsonObject> keep)
    {
        var kept = Read(path).Where(row => keep(row)).Select(row => row.ToJsonString(Readable)).ToList();
        string temporary = path + ".tmp";
        File.WriteAllLines(temporary, kept);
        File.Move(temporary, path, overwrite: true);
    }
}
