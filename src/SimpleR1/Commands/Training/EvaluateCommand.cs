using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Commands.Training;

internal static class EvaluateCommand
{
    public static Command Create()
    {
        var command = new Command(
            "eval",
            "Answer a recipe's held-out problems and report accuracy with its 95% interval"
        );
        var options = new EvaluateOptions(command);
        command.SetHandler(parse => RunAsync(options, parse));
        return command;
    }

    private static async Task<int> RunAsync(EvaluateOptions options, ParseResult parse)
    {
        // Everything that can be wrong comes before the answers
        var recipe = options.Recipe(parse);
        var output = options.Output(parse);
        var comparison = options.Comparison(parse);

        var console = new ConsoleReport();
        using var interrupts = new Interrupts("stopping");
        string temporary = Directory.CreateTempSubdirectory("simple-r1-eval").FullName;
        try
        {
            var events = new ExperimentEvents(console.Step, console.Evaluation, console.Log)
            {
                Progress = console.Progress,
            };
            await using var experiment = await Experiment.StartAsync(
                recipe,
                new(temporary, ExistingRun.Refuse, events) { EvaluatesOnly = true },
                interrupts.Token
            );
            comparison?.Check(experiment.EvaluationFingerprint);
            await experiment.PushWeightsAsync();
            if (await experiment.EvaluateAsync(interrupts.Token) is not { } evaluation)
                return Interrupts.ExitCode;

            if (comparison is not null)
                console.Log(comparison.Describe(evaluation));
            Keep(evaluation, recipe.Model.Path, output, console.Log);
            return 0;
        }
        finally
        {
            console.End();
            Directory.Delete(temporary, recursive: true);
        }
    }

    private static void Keep(Evaluation evaluation, string model, EvaluationFiles? output, Action<string> log)
    {
        if (output is null)
        {
            log("the answers were not kept; --output FOLDER keeps them");
            return;
        }
        output.Write(evaluation, model);
        log($"answers: {output.Answers}");
        log($"summary: {output.Summary}");
    }

    private sealed class EvaluateOptions(Command command)
    {
        private readonly RecipeOptions recipe = new(
            command,
            "A train recipe with data.evaluation",
            "evaluation.temperature=1"
        );
        private readonly Option<string?> model = command
            .AddOption<string?>("--model")
            .Describe("Model folder or checkpoint to evaluate instead of the recipe's");
        private readonly Option<string?> output = command
            .AddOption<string?>("--output", "-o")
            .Describe("Folder for the answers and a summary of them");
        private readonly Option<bool> overwrite = command
            .AddOption<bool>("--overwrite")
            .Describe("Replace the evaluation in that folder");
        private readonly Option<string?> compare = command
            .AddOption<string?>("--compare")
            .Describe(
                "Another evaluation of the same problems, an --output folder or a run's evaluations/step-NNNNNN.jsonl: "
                    + "the difference is reported with its interval"
            );

        public TrainRecipe Recipe(ParseResult parse)
        {
            string[] overrides = recipe.Overrides(parse);
            if (parse.GetValue(model) is { } folder)
                overrides = [.. overrides, $"model.path={folder}"];
            var read = RecipeFile.Load<TrainRecipe>(recipe.Path(parse), overrides);
            return read.Data.Evaluation is not null
                ? read
                : throw new InvalidDataException($"{recipe.Path(parse)}: there is no data.evaluation to answer");
        }

        /// <summary>Where to keep the evaluation; null when it is not to be kept.</summary>
        public EvaluationFiles? Output(ParseResult parse)
        {
            bool replaces = parse.GetValue(overwrite);
            if (parse.GetValue(output) is not { } folder)
                return replaces ? throw new ArgumentException("--overwrite is for --output") : null;
            var files = EvaluationFiles.In(folder);
            files.CheckFree(replaces);
            return files;
        }

        public EvaluationComparison? Comparison(ParseResult parse) =>
            parse.GetValue(compare) is { } path ? new(path) : null;
    }
}
