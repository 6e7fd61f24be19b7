using System.CommandLine;

namespace SimpleR1.Commands.Options;

/// <summary>A recipe file and the values that override its own.</summary>
/// <param name="about">What recipe the command takes.</param>
/// <param name="example">A value to override, for the description.</param>
internal sealed class RecipeOptions(Command command, string about, string example)
{
    private readonly Argument<string> recipe = command.AddArgument("recipe").Describe(about);
    private readonly Option<string[]> overrides = command
        .AddOption<string[]>("--set")
        .Describe($"Override a value: --set {example} (repeatable)");

    public string Path(ParseResult parse) => parse.GetValue(recipe)!;

    public string[] Overrides(ParseResult parse) => parse.GetValue(overrides) ?? [];
}
