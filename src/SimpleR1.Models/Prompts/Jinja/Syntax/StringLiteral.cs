using System.Globalization;
using System.Text;

namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>The escapes of Python's string literals.</summary>
internal static class StringLiteral
{
    /// <param name="body">What is between the quotes.</param>
    /// <param name="problem">Makes the error for an escape that is none.</param>
    public static string Value(string body, Func<string, Exception> problem)
    {
        if (!body.Contains('\\'))
            return body;

        var text = new StringBuilder();
        for (int i = 0; i < body.Length; i++)
        {
            if (body[i] != '\\')
            {
                text.Append(body[i]);
                continue;
            }
            char kind = body[++i];
            if (kind is 'x' or 'u' or 'U')
                i += AppendHex(body, i, text, problem);
            else if (kind is >= '0' and <= '7')
                i += AppendOctal(body, i, text);
            else if (kind == 'N')
                throw problem("the escape \\N{…} is not supported; write the character");
            else if (kind != '\n') // a backslash before a line's end continues the line
                text.Append(Simple(kind));
        }
        return text.ToString();
    }

    private static string Simple(char kind) =>
        kind switch
        {
            'n' => "\n",
            't' => "\t",
            'r' => "\r",
            'a' => "\a",
            'b' => "\b",
            'f' => "\f",
            'v' => "\v",
            '\\' or '\'' or '"' => kind.ToString(),
            _ => "\\" + kind,
        };

    private static int AppendHex(string body, int place, StringBuilder text, Func<string, Exception> problem)
    {
        int length = body[place] switch
        {
            'x' => 2,
            'u' => 4,
            _ => 8,
        };
        string digits = body[(place + 1)..Math.Min(body.Length, place + 1 + length)];
        bool isHex = uint.TryParse(digits, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out uint code);
        if (!isHex || digits.Length < length || code > 0x10ffff)
            throw problem($"the escape \\{body[place]}{digits} is no character");

        if (code < 0x10000)
            text.Append((char)code);
        else
            text.Append(new Rune(code).ToString());
        return length;
    }

    private static int AppendOctal(string body, int place, StringBuilder text)
    {
        int end = place;
        int code = 0;
        while (end < body.Length && end < place + 3 && body[end] is >= '0' and <= '7')
            code = code * 8 + (body[end++] - '0');
        text.Append((char)code);
        return end - place - 1;
    }
}
