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
        command.SetHandler(parse =>
        {
            options.Check(parse);
            return options.Run(parse) is { } run ? RunAsync(options, parse, run) : RunAsync(options, parse);
        });
        return command;
    }

    /// <summary>Evaluates one model.</summary>
    private static Task<int> RunAsync(EvaluateOptions options, ParseResult parse)
    {
        // Everything that can be wrong comes before the answers
        var recipe = options.Recipe(parse);
        var output = options.Output(parse);
        var compared = options.Compared(parse);

        return WithExperimentAsync(
            recipe,
            async (experiment, console, stop) =>
            {
                compared?.Check(experiment.EvaluationFingerprint);
                await experiment.PushWeightsAsync();
                if (await experiment.EvaluateAsync(stop) is not { } evaluation)
                    return false;

                if (compared is not null)
                    foreach (
                        string line in new EvaluationComparison(compared, ComparedEvaluation.Of(evaluation)).Lines()
                    )
                        console.Log(line);
                Keep(evaluation, recipe.Model.Path, output, console.Log);
                return true;
            }
        );
    }

    /// <summary>Evaluates all models of a run.</summary>
    private static Task<int> RunAsync(EvaluateOptions options, ParseResult parse, RunFolder run)
    {
        var recipe = options.Recipe(parse);
        var output = options.RunOutput(parse);

        return WithExperimentAsync(
            recipe,
            async (experiment, console, stop) =>
            {
                var result = await new RunEvaluation(run, output, console.Log).RunAsync(experiment, stop);
                console.Log("");
                foreach (string line in EvaluationTable.Lines(result.All))
                    console.Log(line);
                console.Log(
                    output is null
                        ? "the answers were not kept; --output FOLDER keeps them, a table and a picture"
                        : $"table and picture: {output.Table}, {output.Picture}"
                );
                return !result.Interrupted;
            }
        );
    }

    /// <param name="evaluate">Returns false when it was stopped.</param>
    private static async Task<int> WithExperimentAsync(
        TrainRecipe recipe,
        Func<Experiment, ConsoleReport, CancellationToken, Task<bool>> evaluate
    )
    {
        var console = new ConsoleReport();
        using var interrupts = new Interrupts("stopping");
        string temporary = Directory.CreateTempSubdirectory("simple-r1-eval").FullName;
        try
        {
            var events = ReportedRun.Events(console);
            await using var experiment = await Experiment.StartAsync(
                recipe,
                new(temporary, ExistingRun.Refuse, events) { EvaluatesOnly = true },
                interrupts.Token
            );
            return await evaluate(experiment, console, interrupts.Token) ? 0 : Interrupts.ExitCode;
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
}
