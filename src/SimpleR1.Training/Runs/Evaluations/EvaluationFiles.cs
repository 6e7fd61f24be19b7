using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using SimpleR1.Training.Rollouts;
using SimpleR1.Training.Runs.Fingerprints;

namespace SimpleR1.Training.Runs.Evaluations;

/// <summary>An evaluation's figures and what it was made from: the file beside its answers.</summary>
public sealed record EvaluationSummary
{
    /// <summary>Training steps that the weights have had.</summary>
    public required int Step { get; init; }

    /// <summary>Folder of the model that answered.</summary>
    public required string Model { get; init; }

    /// <summary>Hash of its weights in f32; null of an evaluation during training.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Weights { get; init; }
    public required int Problems { get; init; }
    public required int Answers { get; init; }
    public required int Correct { get; init; }
    public required IReadOnlyDictionary<string, double> Metrics { get; init; }
    public required Fingerprint Fingerprint { get; init; }

    internal static EvaluationSummary Of(Evaluation evaluation, string model, string? weights) =>
        new()
        {
            Step = evaluation.Step,
            Model = model,
            Weights = weights,
            Problems = evaluation.Scores.Problems,
            Answers = evaluation.Answers.Count,
            Correct = evaluation.Correct,
            Metrics = evaluation.Metrics().ToDictionary(),
            Fingerprint = evaluation.Fingerprint,
        };
}

/// <summary>The two files of an evaluation: its answers, one rollout a line, and its summary with the fingerprint.</summary>
/// <param name="Answers">The .jsonl file.</param>
/// <param name="Summary">The .json file, which is written last: without it the evaluation is not complete.</param>
public sealed record EvaluationFiles(string Answers, string Summary)
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        WriteIndented = true,
    };

    /// <summary>Of a run, after a step.</summary>
    public static EvaluationFiles Of(RunFolder run, int step) =>
        new(
            Path.Combine(run.Evaluations, $"step-{step:D6}.jsonl"),
            Path.Combine(run.Evaluations, $"step-{step:D6}.json")
        );

    /// <summary>In a folder that holds one evaluation.</summary>
    public static EvaluationFiles In(string folder) =>
        new(Path.Combine(folder, "answers.jsonl"), Path.Combine(folder, "summary.json"));

    /// <summary>Of a folder that holds one evaluation, or of a run's file of answers.</summary>
    /// <exception cref="FileNotFoundException">There is no complete evaluation.</exception>
    public static EvaluationFiles Find(string path)
    {
        var files = Directory.Exists(path) ? In(path) : new(path, Path.ChangeExtension(path, ".json"));
        foreach (string file in new[] { files.Answers, files.Summary })
            if (!File.Exists(file))
                throw new FileNotFoundException(
                    $"no evaluation at {path}: {file} does not exist. Expected a folder of eval --output, or a run's "
                        + "evaluations/step-NNNNNN.jsonl with its .json",
                    file
                );
        return files;
    }

    /// <summary>Checks, before anything is answered, that the two files may be written.</summary>
    /// <exception cref="IOException">
    /// Their folder holds an evaluation that is not to be replaced, or files that are none.
    /// </exception>
    public void CheckFree(bool replace)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(Answers))!;
        if (File.Exists(folder))
            throw new IOException($"{folder} is a file; expected a folder for the evaluation");
        if (!Directory.Exists(folder) || !Directory.EnumerateFileSystemEntries(folder).Any())
            return;
        if (!File.Exists(Answers) && !File.Exists(Summary))
            throw new IOException($"{folder} holds files that are no evaluation; choose another folder");
        if (!replace)
            throw new IOException(
                $"{folder} holds an evaluation; replace it with --overwrite, or choose another folder"
            );
    }

    /// <summary>Writes both files; what they held before is not a complete evaluation from the beginning on.</summary>
    /// <param name="model">Folder of the model that answered.</param>
    /// <param name="weights">Hash of its weights, where it is known.</param>
    public void Write(Evaluation evaluation, string model, string? weights = null)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(Answers))!);
        Delete();
        Replace(Answers, path => File.WriteAllLines(path, evaluation.Answers.Select(a => a.ToJson())));
        var summary = EvaluationSummary.Of(evaluation, model, weights);
        Replace(Summary, path => File.WriteAllText(path, JsonSerializer.Serialize(summary, Json)));
    }

    /// <summary>What the evaluation was made from; null without a complete one, or by a program that kept none.</summary>
    public Fingerprint? ReadFingerprint() => ReadComplete()?.Fingerprint;

    /// <summary>The summary; null without a complete evaluation.</summary>
    internal EvaluationSummary? ReadComplete() => File.Exists(Answers) && File.Exists(Summary) ? ReadSummary() : null;

    internal EvaluationSummary ReadSummary()
    {
        try
        {
            return JsonSerializer.Deserialize<EvaluationSummary>(File.ReadAllText(Summary), Json)
                ?? throw new JsonException("found null");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{Summary}: expected the summary of an evaluation: {e.Message}", e);
        }
    }

    /// <summary>The answers, in the order of the problems and samples.</summary>
    /// <exception cref="InvalidDataException">A line is not a rollout.</exception>
    public IReadOnlyList<Rollout> ReadAnswers()
    {
        var answers = new List<Rollout>();
        foreach (string line in File.ReadLines(Answers))
        {
            try
            {
                answers.Add(Rollout.FromJson(line));
            }
            catch (JsonException e)
            {
                throw new InvalidDataException($"{Answers}:{answers.Count + 1}: expected an answer: {e.Message}", e);
            }
        }
        return answers;
    }

    public void Delete()
    {
        File.Delete(Summary);
        File.Delete(Answers);
    }

    /// <summary>Removes a run's evaluations after a step: a run resumed from it makes them again.</summary>
    public static void Cut(RunFolder run, int step)
    {
        if (!Directory.Exists(run.Evaluations))
            return;
        foreach (string answers in Directory.GetFiles(run.Evaluations, "step-??????.jsonl"))
            if (string.CompareOrdinal(answers, Of(run, step).Answers) > 0)
                new EvaluationFiles(answers, Path.ChangeExtension(answers, ".json")).Delete();
    }

    /// <summary>The steps of a run's evaluations by their fingerprint; null where they have none.</summary>
    internal static IEnumerable<(Fingerprint? Fingerprint, IReadOnlyList<int> Steps)> ByFingerprint(RunFolder run)
    {
        var found = new List<(Fingerprint? Fingerprint, List<int> Steps)>();
        if (!Directory.Exists(run.Evaluations))
            return [];
        foreach (
            string answers in Directory.GetFiles(run.Evaluations, "step-??????.jsonl").Order(StringComparer.Ordinal)
        )
        {
            int step = int.Parse(
                Path.GetFileNameWithoutExtension(answers)["step-".Length..],
                CultureInfo.InvariantCulture
            );
            var fingerprint = Of(run, step).ReadFingerprint();
            int known = found.FindIndex(f => Equals(f.Fingerprint, fingerprint));
            if (known < 0)
                found.Add((fingerprint, [step]));
            else
                found[known].Steps.Add(step);
        }
        return found.Select(f => (f.Fingerprint, (IReadOnlyList<int>)f.Steps));
    }

    private static void Replace(string path, Action<string> write)
    {
        string unfinished = path + ".tmp";
        write(unfinished);
        File.Move(unfinished, path, overwrite: true);
    }
}
