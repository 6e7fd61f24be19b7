using System.Text.RegularExpressions;

namespace SimpleR1.Models.Prompts;

/// <summary>Finds the part of an answer that a prompt already holds, such as <c>&lt;think&gt;</c>.</summary>
internal static partial class AnswerStart
{
    /// <summary>
    /// In what a chat template adds for the assistant's message: all from the first tag of a thought or an answer.
    /// </summary>
    public static string InGenerationPrompt(string generationPrompt)
    {
        var tag = Tag().Match(generationPrompt);
        return tag.Success ? generationPrompt[tag.Index..] : "";
    }

    /// <summary>
    /// In what follows the question, which may also be instructions: a tag at its very end, or an empty pair of tags.
    /// </summary>
    public static string AtEnd(string text)
    {
        var tag = TagAtEnd().Match(text);
        return tag.Success ? tag.Value : "";
    }

    [GeneratedRegex(@"<(?:[\w:]*think(?:ing)?|thought|reason(?:ing)?|answer|solution)>|\[THINK\]")]
    private static partial Regex Tag();

    [GeneratedRegex(
        @"(?:<(?<name>[\w:]*think(?:ing)?|thought|reason(?:ing)?|answer|solution)>(?:\s*</\k<name>>)?|\[THINK\](?:\s*\[/THINK\])?)\s*\z"
    )]
    private static partial Regex TagAtEnd();
}
