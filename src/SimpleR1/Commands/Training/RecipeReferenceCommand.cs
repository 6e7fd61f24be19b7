using System.CommandLine;
using SimpleR1.Commands.Options;
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
        var jsonSchema = command
            .AddOption<bool>("--json-schema")
            .Describe("Print the JSON Schema that editors check recipes with (recipes/recipe.schema.json)");
        command.SetHandler(parse =>
            Console.Write(parse.GetValue(jsonSchema) ? RecipeJsonSchema.Text() : RecipeReference.Markdown())
        );
        return command;
    }
}
