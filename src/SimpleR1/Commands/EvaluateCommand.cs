using System.CommandLine;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;

namespace SimpleR1.Commands;

internal static class EvaluateCommand
{
    public static Command Create()
    {
        var recipe = new Argument<string>("recipe") { Description = "A train recipe with data.evaluation" };
        var model = new Option<string?>("--model")
        {
            Description = "Model folder or checkpoint to evaluate instead of the recipe's",
        };
        var set = new Option<string[]>("--set")
        {
            Description = "Override a value: --set evaluation.temperature=1 (repeatable)",
        };
        var command = new Command(
            "eval",
            "Answer a recipe's held-out problems and report accuracy with its 95% interval"
        )
        {
            recipe,
            model,
            set,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    string[] overrides =
                    [
                        .. parse.GetValue(set) ?? [],
                        .. parse.GetValue(model) is { } m ? new[] { $"model.path={m}" } : [],
                    ];
                    var loaded = RecipeFile.Load<TrainRecipe>(parse.GetValue(recipe)!, overrides);
                    if (loaded.Data.Evaluation is null)
                        throw new InvalidDataException(
                            $"{parse.GetValue(recipe)}: there is no data.evaluation to answer"
                        );
                    var console = new ConsoleReport();
                    using var interrupts = new Interrupts("stopping");
                    string temporary = Directory.CreateTempSubdirectory("simple-r1-eval").FullName;
                    try
                    {
                        await using var experiment = await Experiment.StartAsync(
                            loaded,
                            new(temporary, ExistingRun.Refuse, new(console.Step, console.Evaluation, console.Say)),
                            interrupts.Token
                        );
                        await experiment.PushWeightsAsync();
                        return await experiment.EvaluateAsync(interrupts.Token) is null ? 130 : 0;
                    }
                    finally
                    {
                        Directory.Delete(temporary, recursive: true);
                    }
                })
        );
        return command;
    }
}
