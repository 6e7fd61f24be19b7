using SimpleR1.Models.Json;

namespace SimpleR1.Models.Tokenization.Splitting;

/// <summary>sentencepiece's way with spaces: each is a ▁, and a text gets one in front.</summary>
/// <param name="Scheme"><c>always</c>, <c>first</c> (only at the start of the whole text) or <c>never</c>.</param>
internal sealed record Metaspace(string Replacement, string Scheme, bool Split)
{
    private static readonly string[] Schemes = ["always", "first", "never"];

    public static Metaspace Read(JsonSection section)
    {
        string replacement = section.Text("replacement");
        string scheme = section.TextOrNull("prepend_scheme") ?? "always";
        if (!Schemes.Contains(scheme))
            throw section.Unsupported("prepend_scheme", $"expected {string.Join(", ", Schemes)}, found '{scheme}'");

        // Files of old have a flag instead of the scheme; the scheme also counts next to it, unless they disagree.
        bool hasScheme = section.Has("prepend_scheme");
        bool addSpace = section.Flag("add_prefix_space", true);
        if (!addSpace && hasScheme && scheme != "never")
            throw section.Problem("add_prefix_space", $"false, but prepend_scheme is '{scheme}'");

        bool split = section.Flag("split", true);
        section.TextOrNull("str_rep"); // the replacement again
        return new(replacement, addSpace ? scheme : "never", split);
    }

    public Word Apply(Word word)
    {
        string text = word.Text.Replace(" ", Replacement, StringComparison.Ordinal);
        bool prepend = Scheme == "always" || (Scheme == "first" && word.AtStart);
        bool hasSpace = text.StartsWith(Replacement, StringComparison.Ordinal);
        return word with { Text = prepend && !hasSpace ? Replacement + text : text };
    }
}
