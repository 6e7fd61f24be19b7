using SimpleR1.Commands;
using Xunit;

namespace SimpleR1.Tests.Docs;

/// <summary>docs/commands.md against the command line.</summary>
public sealed class CommandReferenceTests
{
    [Fact]
    public void Reference_in_docs_is_what_the_code_generates()
    {
        string path = Path.Combine(SharedData.RepositoryRoot, "docs", "commands.md");
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_WRITE_DOCS") == "1")
            CommandReference.Write(path, Pages.Commands);
        Assert.True(
            File.Exists(path) && File.ReadAllText(path) == CommandReference.Markdown(Pages.Commands),
            $"{path} is out of date: run the tests once with SIMPLE_R1_WRITE_DOCS=1 and commit it"
        );
    }

    [Fact]
    public void Every_command_argument_and_option_has_a_description()
    {
        var all = Pages.Commands.SelectMany(c => c.Subcommands.Prepend(c)).ToArray();
        Assert.Equal([], all.Where(c => string.IsNullOrWhiteSpace(c.Description)).Select(c => c.Name));
        Assert.Equal(
            [],
            all.SelectMany(c =>
                c.Options.Where(o => string.IsNullOrWhiteSpace(o.Description)).Select(o => $"{c.Name} {o.Name}")
            )
        );
        Assert.Equal(
            [],
            all.SelectMany(c =>
                c.Arguments.Where(a => string.IsNullOrWhiteSpace(a.Description)).Select(a => $"{c.Name} {a.Name}")
            )
        );
    }
}
