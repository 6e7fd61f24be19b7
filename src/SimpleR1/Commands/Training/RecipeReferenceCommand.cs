using System.CommandLine;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Commands.Training;

internal static class RecipeReferenceCommand
{
    public static Command Create()
    {
        var command = new Command(
            "recipe-reference",
            "Print every recipe key with its type, default and meaning (docs/recipes.md)"
        );
        command.SetAction(_ => Console.Write(RecipeReference.Markdown()));
        return command;
    }
}
