using System.CommandLine;

namespace SimpleR1.Commands.Training;

/// <summary>The command line of a run as it may be kept and shown, and the one that resumes it.</summary>
internal static class ResumeCommand
{
    private const string SpecialCharacters = " '\"{}[]<>*?$&;|()\\";

    /// <summary>
    /// The command line that a run was started with, changed to resume it. It leaves out the key, which is a secret.
    /// </summary>
    public static string For(ParseResult parse)
    {
        var tokens = WithoutKey(parse).Where(token => token is not ("--resume" or "--overwrite" or "--dry-run"));
        return Line([.. tokens, "--resume"]);
    }

    /// <summary>The command line as it was given, without the key.</summary>
    public static string Given(ParseResult parse) => Line(WithoutKey(parse));

    private static IEnumerable<string> WithoutKey(ParseResult parse)
    {
        string? previous = null;
        foreach (string token in parse.Tokens.Select(t => t.Value))
        {
            if (previous != "--key" && token != "--key")
                yield return token;
            previous = token;
        }
    }

    private static string Line(IEnumerable<string> tokens) =>
        string.Join(' ', tokens.Select(Quoted).Prepend("simple-r1"));

    /// <summary>A token as a shell takes it.</summary>
    private static string Quoted(string token) =>
        token.AsSpan().ContainsAny(SpecialCharacters) ? $"'{token.Replace("'", "'\\''")}'" : token;
}
