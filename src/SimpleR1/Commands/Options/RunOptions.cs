using System.CommandLine;
using SimpleR1.Training.Runs;

namespace SimpleR1.Commands.Options;

/// <summary>The options of commands that train: a recipe, and what becomes of a run of its name.</summary>
/// <param name="about">What recipe the command takes.</param>
/// <param name="example">A value to override, for the description.</param>
/// <param name="replaced">What --overwrite replaces.</param>
internal sealed class RunOptions(Command command, string about, string example, string replaced)
{
    private readonly RecipeOptions recipe = new(command, about, example);
    private readonly Option<bool> resume = command
        .AddOption<bool>("--resume")
        .Describe("Continue from the run's last checkpoint");
    private readonly Option<bool> overwrite = command.AddOption<bool>("--overwrite").Describe(replaced);
    private readonly Option<bool> dryRun = command
        .AddOption<bool>("--dry-run")
        .Describe("Check everything, print what the run would do and need, and stop");
    private readonly Option<string> runs = command.AddDefault("--runs", "runs").Describe("Folder for results");

    public string Path(ParseResult parse) => recipe.Path(parse);

    public string[] Overrides(ParseResult parse) => recipe.Overrides(parse);

    public bool IsDryRun(ParseResult parse) => parse.GetValue(dryRun);

    public string Runs(ParseResult parse) => parse.GetValue(runs)!;

    /// <exception cref="ArgumentException">Options that exclude each other were given.</exception>
    public ExistingRun Existing(ParseResult parse) =>
        (parse.GetValue(resume), parse.GetValue(overwrite)) switch
        {
            (true, true) => throw new ArgumentException("--resume and --overwrite exclude each other"),
            (true, _) => ExistingRun.Resume,
            (_, true) => ExistingRun.Overwrite,
            _ => ExistingRun.Refuse,
        };
}
