using System.CommandLine;

namespace SimpleR1.Commands.Training;

/// <summary>The command line that resumes a run.</summary>
internal static class ResumeCommand
{
    private const string SpecialCharacters = " '\"{}[]<>*?$&;|()\\";

    /// <summary>
    /// The command line that a run was started with, changed to resume it. It leaves out the key, which is a secret.
    /// </summary>
    public static string For(ParseResult parse)
    {
        var tokens = WithoutKeyAndMode(parse.Tokens.Select(t => t.Value));
        var quoted = tokens.Select(Quoted);
        return string.Join(' ', ["simple-r1", .. quoted, "--resume"]);
    }

    private static IEnumerable<string> WithoutKeyAndMode(IEnumerable<string> tokens)
    {
        string? previous = null;
        foreach (string token in tokens)
        {
            if (previous != "--key" && token is not ("--key" or "--resume" or "--overwrite" or "--dry-run"))
                yield return token;
            previous = token;
        }
    }

    /// <summary>A token as a shell takes it.</summary>
    private static string Quoted(string token) =>
        token.AsSpan().ContainsAny(SpecialCharacters) ? $"'{token.Replace("'", "'\\''")}'" : token;
}
