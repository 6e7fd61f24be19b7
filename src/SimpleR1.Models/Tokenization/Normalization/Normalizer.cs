using System.Text;
using SimpleR1.Models.Json;
using SimpleR1.Models.Tokenization.Patterns;

namespace SimpleR1.Models.Tokenization.Normalization;

/// <summary>What a tokenizer.json's <c>normalizer</c> does to a text, step by step.</summary>
internal sealed class Normalizer
{
    private readonly List<Func<string, string>> steps = [];

    /// <param name="section">The file's <c>normalizer</c>; null changes nothing.</param>
    public Normalizer(JsonSection? section)
    {
        if (section is not null)
            Add(section);
    }

    public string Apply(string text)
    {
        foreach (var step in steps)
            text = step(text);
        return text;
    }

    private void Add(JsonSection section)
    {
        string type = section.Text("type");
        switch (type)
        {
            case "Sequence":
                foreach (var part in section.Sections("normalizers"))
                    Add(part);
                break;
            case "NFC":
                steps.Add(UnicodeForms.Nfc);
                break;
            case "NFD":
                steps.Add(UnicodeForms.Nfd);
                break;
            case "NFKC":
                steps.Add(UnicodeForms.Nfkc);
                break;
            case "NFKD":
                steps.Add(UnicodeForms.Nfkd);
                break;
            case "Lowercase":
                steps.Add(Lower);
                break;
            case "StripAccents":
                steps.Add(text => Filter(text, rune => !IsMark(rune)));
                break;
            case "Nmt":
                steps.Add(Nmt);
                break;
            case "ByteLevel":
                steps.Add(ByteAlphabet.Encode);
                break;
            default:
                AddWithOptions(section, type);
                break;
        }

        section.RefuseUnread();
    }

    private void AddWithOptions(JsonSection section, string type)
    {
        switch (type)
        {
            case "Strip":
                bool left = section.Flag("strip_left");
                bool right = section.Flag("strip_right");
                steps.Add(text => Strip(text, left, right));
                break;
            case "Prepend":
                string prefix = section.Text("prepend");
                steps.Add(text => text.Length == 0 ? text : prefix + text);
                break;
            case "Replace":
                steps.Add(Replacement.Read(section).Apply);
                break;
            default:
                throw section.Unsupported(
                    "type",
                    $"the normalizer '{type}' is not supported (NFC, NFD, NFKC, NFKD, Nmt, Lowercase, Strip, "
                        + "StripAccents, Prepend, Replace, ByteLevel and Sequence are)"
                );
        }
    }

    private static string Strip(string text, bool left, bool right)
    {
        text = left ? text.TrimStart() : text;
        return right ? text.TrimEnd() : text;
    }

    /// <summary>Each character in lower case, without regard to its neighbours and to any language.</summary>
    private static string Lower(string text)
    {
        var lower = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
        {
            if (rune.Value == 0x130)
                lower.Append("i\u0307"); // the only letter that becomes two
            else
                lower.Append(Rune.ToLowerInvariant(rune).ToString());
        }

        return lower.ToString();
    }

    private static bool IsMark(Rune rune) => UnicodeProperties.Find("M")!.Contains(rune.Value);

    private static string Filter(string text, Func<Rune, bool> keep)
    {
        var kept = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes().Where(keep))
            kept.Append(rune.ToString());
        return kept.ToString();
    }

    /// <summary>sentencepiece's rule "nmt": without control characters, and other spaces as plain ones.</summary>
    private static string Nmt(string text) =>
        string.Concat(
            text.Where(c =>
                    c is not ((>= '\u0001' and <= '\u0008') or '\u000B' or (>= '\u000E' and <= '\u001F'))
                    && c is not ('\u007F' or '\u008F' or '\u009F')
                )
                .Select(c => IsNmtSpace(c) ? ' ' : c)
        );

    private static bool IsNmtSpace(char c) =>
        c is '\t' or '\n' or '\f' or '\r' or '\u1680' or '\u2028' or '\u2029' or '\u2581' or '\uFEFF' or '\uFFFD'
        || c is >= '\u200B' and <= '\u200F';
}
