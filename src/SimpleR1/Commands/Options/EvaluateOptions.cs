using System.CommandLine;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Commands.Options;

/// <summary>The options of eval: what is evaluated, and what becomes of the answers.</summary>
internal sealed class EvaluateOptions(Command command)
{
    private readonly RecipeOptions recipe = new(
        command,
        "A train recipe with data.evaluation",
        "evaluation.temperature=1"
    );
    private readonly Option<string?> model = command
        .AddOption<string?>("--model")
        .Describe("Model folder or checkpoint to evaluate instead of the recipe's");
    private readonly Option<string?> run = command
        .AddOption<string?>("--run")
        .Describe(
            "Folder of a run, such as runs/NAME: evaluate the model that it began with and every checkpoint that it has kept"
        );
    private readonly Option<string?> output = command
        .AddOption<string?>("--output", "-o")
        .Describe(
            "Folder for the answers and a summary of them; with --run for those of each step, a table and a picture. What a "
                + "stopped eval --run has kept there is not made again"
        );
    private readonly Option<bool> overwrite = command
        .AddOption<bool>("--overwrite")
        .Describe("Replace the evaluations in that folder");
    private readonly Option<string?> compare = command
        .AddOption<string?>("--compare")
        .Describe(
            "Another evaluation of the same problems, an --output folder or a run's evaluations/step-NNNNNN.jsonl: "
                + "the two are compared, as the command compare does"
        );

    public TrainRecipe Recipe(ParseResult parse)
    {
        var overrides = recipe.Overrides(parse).ToList();
        if (Run(parse) is { } of) // before what the user says
            overrides.Insert(0, $"model.path={RecipeFile.Load<TrainRecipe>(of.Recipe).Model.Path}");
        if (parse.GetValue(model) is { } folder)
            overrides.Add($"model.path={folder}");
        var read = RecipeFile.Load<TrainRecipe>(recipe.Path(parse), overrides);
        return read.Data.Evaluation is not null
            ? read
            : throw new InvalidDataException($"{recipe.Path(parse)}: there is no data.evaluation to answer");
    }

    /// <summary>The run whose models are evaluated; null where it is one model.</summary>
    /// <exception cref="IOException">There is no such run.</exception>
    public RunFolder? Run(ParseResult parse)
    {
        if (parse.GetValue(run) is not { } folder)
            return null;
        string path = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        var found = RunFolder.Find(Path.GetDirectoryName(path) ?? path, Path.GetFileName(path), ExistingRun.Resume);
        return File.Exists(found.Recipe) ? found : throw new IOException($"{found.Path}: no run to evaluate yet");
    }

    /// <summary>Where to keep the evaluation of one model; null when it is not to be kept.</summary>
    public EvaluationFiles? Output(ParseResult parse)
    {
        if (Folder(parse) is not { } folder)
            return null;
        var files = EvaluationFiles.In(folder);
        files.CheckFree(parse.GetValue(overwrite));
        return files;
    }

    /// <summary>Where to keep the evaluations of a run's models; null when they are not to be kept.</summary>
    public EvaluationFolder? RunOutput(ParseResult parse) =>
        Folder(parse) is { } folder ? new(folder, parse.GetValue(overwrite)) : null;

    /// <summary>The evaluation to compare with; null without one.</summary>
    public ComparedEvaluation? Compared(ParseResult parse) =>
        parse.GetValue(compare) is { } path ? ComparedEvaluation.Read(path) : null;

    /// <exception cref="ArgumentException">Options that exclude each other were given.</exception>
    public void Check(ParseResult parse)
    {
        if (parse.GetValue(run) is not null && parse.GetValue(compare) is not null)
            throw new ArgumentException(
                "--compare is for one model; compare two kept evaluations of a run with: simple-r1 compare A B"
            );
    }

    private string? Folder(ParseResult parse)
    {
        string? folder = parse.GetValue(output);
        bool isMisused = folder is null && parse.GetValue(overwrite);
        return isMisused ? throw new ArgumentException("--overwrite is for --output") : folder;
    }
}
