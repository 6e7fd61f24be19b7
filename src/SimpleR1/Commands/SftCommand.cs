using System.CommandLine;
using System.Globalization;
using SimpleR1.Training;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Commands;

internal static class SftCommand
{
    public static Command Create()
    {
        var recipe = new Argument<string>("recipe") { Description = "An sft recipe (docs/recipes.md lists every key)" };
        var set = new Option<string[]>("--set")
        {
            Description = "Override a value: --set training.steps=100 (repeatable)",
        };
        var command = new Command("sft", "Train on text: pretrain a tiny base model, or a cold start") { recipe, set };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(() =>
                {
                    var loaded = RecipeFile.Load<SftRecipe>(parse.GetValue(recipe)!, parse.GetValue(set));
                    using var interrupts = new Interrupts("finishing this step, then writing the model");
                    double loss = Sft.Run(
                        loaded,
                        s =>
                        {
                            if (s.Step % 10 == 0 || s.Step == s.Steps || s.HeldOutLoss is not null)
                                Console.WriteLine(
                                    string.Create(
                                        CultureInfo.InvariantCulture,
                                        $"step {s.Step}/{s.Steps}  loss {s.Loss:F4}  gradient norm {s.GradientNorm:F2}  learning rate {s.LearningRate:E2}  {s.TokensPerSecond:N0} tok/s  left {ConsoleReport.Duration(s.EtaSeconds)}{(s.HeldOutLoss is { } h ? $"  held-out loss {h:F4}" : "")}"
                                    )
                                );
                        },
                        interrupts.Token
                    );
                    Console.WriteLine(
                        string.Create(
                            CultureInfo.InvariantCulture,
                            $"{loaded.Output}: written, loss {loss:F4} nats a token"
                        )
                    );
                    return Task.FromResult(0);
                })
        );
        return command;
    }
}
