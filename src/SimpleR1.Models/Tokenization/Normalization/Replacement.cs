using System.Text;
using SimpleR1.Models.Json;
using SimpleR1.Models.Tokenization.Patterns;

namespace SimpleR1.Models.Tokenization.Normalization;

/// <summary>The step <c>Replace</c> of normalizers and decoders.</summary>
/// <param name="Literal">The text that is replaced; null for a pattern.</param>
internal sealed record Replacement(CodePointPattern Pattern, string? Literal, string Content)
{
    /// <exception cref="NotSupportedException">The pattern can't be translated.</exception>
    public static Replacement Read(JsonSection section)
    {
        var (pattern, literal) = ReadPattern(section);
        return new(pattern, literal, section.Text("content"));
    }

    /// <summary>Reads <c>{"Regex": …}</c> or <c>{"String": …}</c> under the key <c>pattern</c>.</summary>
    public static (CodePointPattern Pattern, string? Literal) ReadPattern(JsonSection section)
    {
        var pattern = section.Section("pattern");
        string? regex = pattern.TextOrNull("Regex");
        string? literal = pattern.TextOrNull("String");
        pattern.RefuseUnread();
        if (regex is null == literal is null)
            throw section.Problem("pattern", "expected either Regex or String");
        if (literal?.Length == 0)
            throw section.Unsupported("pattern", "an empty text is not supported");
        if (literal is not null)
            return (CodePointPattern.Exactly(literal), literal);

        try
        {
            return (CodePointPattern.Translate(regex!), null);
        }
        catch (NotSupportedException e)
        {
            throw section.Unsupported("pattern", e.Message);
        }
    }

    public string Apply(string text)
    {
        if (Literal is not null)
            return text.Replace(Literal, Content, StringComparison.Ordinal);

        var replaced = new StringBuilder(text.Length);
        int done = 0;
        foreach (var (start, end) in Pattern.Matches(text))
        {
            replaced.Append(text, done, start - done).Append(Content);
            done = end;
        }

        return replaced.Append(text, done, text.Length - done).ToString();
    }
}
