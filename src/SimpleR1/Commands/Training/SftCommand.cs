using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;
using static System.FormattableString;

namespace SimpleR1.Commands.Training;

internal static class SftCommand
{
    private const int PrintEvery = 10; // steps

    public static Command Create()
    {
        var command = new Command("sft", "Train on text: pretrain a tiny base model, or a cold start");
        var recipe = new RecipeOptions(
            command,
            "An sft recipe (docs/recipes.md lists every key)",
            "training.steps=100"
        );
        command.SetHandler(parse => Run(RecipeFile.Load<SftRecipe>(recipe.Path(parse), recipe.Overrides(parse))));
        return command;
    }

    private static void Run(SftRecipe recipe)
    {
        using var interrupts = new Interrupts("finishing this step, then writing the model");
        double loss = Sft.Run(recipe, PrintStep, interrupts.Token, Console.WriteLine);
        Console.WriteLine(Invariant($"{recipe.Output}: written, loss {loss:F4} nats a token"));
    }

    private static void PrintStep(SftStep s)
    {
        if (s.Step % PrintEvery != 0 && s.Step != s.Steps && s.HeldOutLoss is null)
            return;
        string heldOut = s.HeldOutLoss is { } loss ? Invariant($"  held-out loss {loss:F4}") : "";
        Console.WriteLine(
            Invariant($"step {s.Step}/{s.Steps}  loss {s.Loss:F4}  gradient norm {s.GradientNorm:F2}  ")
                + Invariant($"learning rate {s.LearningRate:E2}  {s.TokensPerSecond:N0} tok/s  ")
                + $"left {ConsoleReport.Duration(s.EtaSeconds)}{heldOut}"
        );
    }
}
