using System.Text.RegularExpressions;
using SimpleR1.Models.Prompts.Jinja.Texts;

namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>
/// A template as tokens, with the white space removed that Jinja removes with <c>trim_blocks</c> and
/// <c>lstrip_blocks</c>, which transformers sets.
/// </summary>
internal sealed partial class Lexer
{
    private const string Openers = "%{#";

    private readonly string source;
    private readonly List<Token> tokens = [];
    private int position;
    private int line = 1;
    private int counted; // newlines before this place are in line

    private Lexer(string source)
    {
        string text = source.Replace("\r\n", "\n", StringComparison.Ordinal).Replace('\r', '\n');
        this.source = text.EndsWith('\n') ? text[..^1] : text; // Jinja drops one newline at the end
    }

    /// <exception cref="JinjaException">A tag, a literal or a bracket is not closed, or a character has no meaning.</exception>
    public static List<Token> Read(string source)
    {
        var lexer = new Lexer(source);
        lexer.ReadAll();
        return lexer.tokens;
    }

    private void ReadAll()
    {
        while (true)
        {
            int tag = NextTag();
            if (tag < 0)
                break;
            char sign = Sign(tag + 2);
            AddText(position, tag, sign, source[tag + 1] == '{');
            position = tag + 2 + (sign == ' ' ? 0 : 1);
            ReadTag(source[tag + 1]);
        }
        if (position < source.Length)
            Add(TokenKind.Text, source[position..]);
        position = source.Length;
        Add(TokenKind.End, "");
    }

    private int NextTag()
    {
        for (int i = source.IndexOf('{', position); i >= 0 && i + 1 < source.Length; i = source.IndexOf('{', i + 1))
            if (Openers.Contains(source[i + 1]))
                return i;
        return -1;
    }

    /// <summary>The character that controls white space at a place; a space if there is none.</summary>
    private char Sign(int place) => place < source.Length && source[place] is '-' or '+' ? source[place] : ' ';

    /// <summary>Text before a tag.</summary>
    private void AddText(int start, int end, char sign, bool isPrint)
    {
        string text = source[start..end];
        if (sign == '-')
        {
            text = PythonText.StripEnd(text);
        }
        else if (sign != '+' && !isPrint)
        {
            // White space between the line's start and the tag.
            int lineStart = text.LastIndexOf('\n') + 1;
            bool isStart = lineStart > 0 || start == 0 || source[start - 1] == '\n';
            if (isStart && text.Skip(lineStart).All(PythonText.IsSpace))
                text = text[..lineStart];
        }
        if (text.Length > 0)
            Add(TokenKind.Text, text);
    }

    private void ReadTag(char opener)
    {
        if (opener == '#')
        {
            int start = position;
            int end = source.IndexOf("#}", start, StringComparison.Ordinal);
            if (end < 0)
                throw Problem("a comment is not closed: '#}' is missing");
            EndTag(end > start ? source[end - 1] : ' ', end + 2, trimsNewline: true);
            return;
        }
        if (opener == '%' && RawBegin().Match(source, position) is { Success: true } raw)
        {
            position += raw.Length;
            ReadRaw();
            return;
        }
        Add(opener == '%' ? TokenKind.BlockBegin : TokenKind.PrintBegin, "");
        ReadExpression(opener == '%');
    }

    private void ReadRaw()
    {
        var end = RawEnd().Match(source, position);
        if (!end.Success)
            throw Problem("a raw block is not closed: '{% endraw %}' is missing");
        AddText(position, end.Index, Sign(end.Index + 2), isPrint: false);
        position = end.Index + end.Length;
    }

    /// <summary>Continues after a tag's end, without the white space that its sign removes.</summary>
    private void EndTag(char sign, int next, bool trimsNewline)
    {
        position = next;
        if (sign == '-')
            while (position < source.Length && PythonText.IsSpace(source[position]))
                position++;
        else if (sign != '+' && trimsNewline && position < source.Length && source[position] == '\n')
            position++;
    }

    private void ReadExpression(bool isBlock)
    {
        string closer = isBlock ? "%}" : "}}";
        var brackets = new Stack<char>();
        while (true)
        {
            while (position < source.Length && PythonText.IsSpace(source[position]))
                position++;
            if (position >= source.Length)
                throw Problem($"a tag is not closed: '{closer}' is missing");

            if (brackets.Count == 0)
            {
                bool signed = source[position] == '-' || isBlock && source[position] == '+';
                int end = signed ? position + 1 : position;
                if (string.CompareOrdinal(source, end, closer, 0, 2) == 0)
                {
                    Add(isBlock ? TokenKind.BlockEnd : TokenKind.PrintEnd, "");
                    EndTag(signed ? source[position] : ' ', end + 2, trimsNewline: isBlock);
                    return;
                }
            }
            ReadToken(brackets);
        }
    }

    private void ReadToken(Stack<char> brackets)
    {
        var match = TokenPattern().Match(source, position);
        if (!match.Success)
            throw Problem($"unexpected character '{source[position]}'");
        var kind = match switch
        {
            _ when match.Groups["float"].Success => TokenKind.Float,
            _ when match.Groups["integer"].Success => TokenKind.Integer,
            _ when match.Groups["name"].Success => TokenKind.Name,
            _ when match.Groups["string"].Success => TokenKind.String,
            _ => TokenKind.Operator,
        };
        if (kind == TokenKind.Operator)
            Balance(match.Value, brackets);
        if (kind == TokenKind.Name && char.IsAsciiDigit(match.Value[0]))
            throw Problem($"'{match.Value}' is no name");

        Add(kind, kind == TokenKind.String ? StringLiteral.Value(match.Value[1..^1], Problem) : match.Value);
        position += match.Length;
    }

    private void Balance(string bracket, Stack<char> brackets)
    {
        switch (bracket)
        {
            case "{":
                brackets.Push('}');
                break;
            case "(":
                brackets.Push(')');
                break;
            case "[":
                brackets.Push(']');
                break;
            case "}" or ")" or "]":
                if (!brackets.TryPop(out char expected))
                    throw Problem($"unexpected '{bracket}'");
                if (expected != bracket[0])
                    throw Problem($"unexpected '{bracket}', expected '{expected}'");
                break;
        }
    }

    private void Add(TokenKind kind, string text) => tokens.Add(new(kind, text, Line()));

    private JinjaException Problem(string problem) => new(Line(), problem);

    private int Line()
    {
        int end = Math.Min(position, source.Length);
        line += source.AsSpan(counted, end - counted).Count('\n');
        counted = end;
        return line;
    }

    [GeneratedRegex(@"\G\s*raw\s*(?:-%\}\s*|%\})")]
    private static partial Regex RawBegin();

    [GeneratedRegex(@"\{%[-+]?\s*endraw\s*(?:\+%\}|-%\}\s*|%\}\n?)")]
    private static partial Regex RawEnd();

    [GeneratedRegex(
        """
            \G(?:
              (?<float>(?<!\.)(?:[0-9]+_)*[0-9]+(?:(?:\.(?:[0-9]+_)*[0-9]+)?[eE][+-]?(?:[0-9]+_)*[0-9]+|\.(?:[0-9]+_)*[0-9]+))
            | (?<integer>0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0[xX](?:_?[0-9a-fA-F])+|[1-9](?:_?[0-9])*|0(?:_?0)*)
            | (?<name>\w+)
            | (?<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
            | //|\*\*|==|!=|>=|<=|[-+/*%~\[\](){}><=.:|,;]
            )
            """,
        RegexOptions.IgnorePatternWhitespace | RegexOptions.Singleline
    )]
    private static partial Regex TokenPattern();
}
