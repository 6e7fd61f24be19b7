using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Screen;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;

namespace SimpleR1.Commands.Training;

internal static class EvaluateCommand
{
    public static Command Create()
    {
        var command = new Command(
            "eval",
            "Answer a recipe's held-out problems and report accuracy with its 95% interval"
        );
        var recipe = new RecipeOptions(command, "A train recipe with data.evaluation", "evaluation.temperature=1");
        var model = command
            .AddOption<string?>("--model")
            .Describe("Model folder or checkpoint to evaluate instead of the recipe's");
        command.SetHandler(parse => RunAsync(recipe.Path(parse), recipe.Overrides(parse), parse.GetValue(model)));
        return command;
    }

    private static async Task<int> RunAsync(string path, string[] overrides, string? model)
    {
        if (model is not null)
            overrides = [.. overrides, $"model.path={model}"];
        var recipe = RecipeFile.Load<TrainRecipe>(path, overrides);
        if (recipe.Data.Evaluation is null)
            throw new InvalidDataException($"{path}: there is no data.evaluation to answer");

        var console = new ConsoleReport();
        using var interrupts = new Interrupts("stopping");
        string temporary = Directory.CreateTempSubdirectory("simple-r1-eval").FullName;
        try
        {
            await using var experiment = await Experiment.StartAsync(
                recipe,
                new(temporary, ExistingRun.Refuse, new(console.Step, console.Evaluation, console.Log)),
                interrupts.Token
            );
            await experiment.PushWeightsAsync();
            return await experiment.EvaluateAsync(interrupts.Token) is null ? Interrupts.ExitCode : 0;
        }
        finally
        {
            Directory.Delete(temporary, recursive: true);
        }
    }
}
