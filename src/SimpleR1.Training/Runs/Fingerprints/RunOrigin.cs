using System.Reflection;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace SimpleR1.Training.Runs.Fingerprints;

/// <summary>
/// What one session of a run was made by: the program, the machine and the command line. A start and every resume add a
/// line to <c>sessions.jsonl</c>.
/// </summary>
public sealed record RunOrigin
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>When the session began to load.</summary>
    public required DateTimeOffset Started { get; init; }

    /// <summary>The step that the session continues after; 0 for the start.</summary>
    public required int Step { get; init; }

    /// <summary>The command line without secrets; null where a program with a loop of its own runs.</summary>
    public required string? Command { get; init; }

    /// <summary>The program's version.</summary>
    public required string Version { get; init; }

    /// <summary>The commit that the program was built from; null where the build did not know it.</summary>
    public required string? Commit { get; init; }
    public required Machine Machine { get; init; }

    /// <summary>What a session is made by that runs in this process.</summary>
    public static RunOrigin Current(DateTimeOffset started, int step, string? command, Machine machine)
    {
        string[] version = (
            typeof(RunOrigin).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion
            ?? "?"
        ).Split('+', 2);
        return new()
        {
            Started = started,
            Step = step,
            Command = command,
            Version = version[0],
            Commit = version.Length > 1 ? version[1] : null,
            Machine = machine,
        };
    }

    /// <summary>Adds this session to a run's others.</summary>
    public void AddTo(RunFolder run) => File.AppendAllText(run.Sessions, JsonSerializer.Serialize(this, Json) + "\n");

    /// <summary>Of each session of a run, in order; none where an older program wrote the run.</summary>
    /// <param name="path">sessions.jsonl.</param>
    /// <exception cref="InvalidDataException">The file is damaged.</exception>
    public static IReadOnlyList<RunOrigin> Read(string path)
    {
        if (!File.Exists(path))
            return [];
        try
        {
            return [.. File.ReadLines(path).Select(line => JsonSerializer.Deserialize<RunOrigin>(line, Json)!)];
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}: expected a session a line: {e.Message}", e);
        }
    }
}
