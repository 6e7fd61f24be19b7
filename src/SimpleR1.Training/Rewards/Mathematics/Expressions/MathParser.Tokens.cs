namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

/// <summary>The text as characters, words and commands.</summary>
internal sealed partial class MathParser
{
    private static readonly Dictionary<string, string> Operators = new()
    {
        ["times"] = "*",
        ["cdot"] = "*",
        ["ast"] = "*",
        ["div"] = "/",
        ["pm"] = "±",
        ["mp"] = "∓",
        ["le"] = "≤",
        ["leq"] = "≤",
        ["leqslant"] = "≤",
        ["ge"] = "≥",
        ["geq"] = "≥",
        ["geqslant"] = "≥",
        ["lt"] = "<",
        ["gt"] = ">",
        ["ne"] = "≠",
        ["neq"] = "≠",
        ["approx"] = "≈",
        ["approxeq"] = "≈",
        ["thickapprox"] = "≈",
        ["simeq"] = "≈",
        ["in"] = "∈",
        ["equiv"] = "≡",
        ["cup"] = "∪",
        ["cap"] = "∩",
        ["setminus"] = "∖",
        ["lvert"] = "|",
        ["rvert"] = "|",
        ["mid"] = "|",
        ["vert"] = "|",
        ["to"] = "→",
        ["rightarrow"] = "→",
        ["lbrace"] = "\\{",
        ["rbrace"] = "\\}",
        ["langle"] = "(",
        ["rangle"] = ")",
        ["lbrack"] = "[",
        ["rbrack"] = "]",
        ["colon"] = ":",
    };

    /// <summary>
    /// The next character that is not a space; '\0' at the end. A command for an operator is that operator.
    /// </summary>
    private char Peek()
    {
        while (at < text.Length && (char.IsWhiteSpace(text[at]) || text[at] == '~'))
            at++;
        if (at >= text.Length)
            return '\0';
        bool isOperator = text[at] == '\\' && Operators.ContainsKey(CommandAt(at));
        return isOperator ? Operators[CommandAt(at)][0] : text[at];
    }

    private string CommandAt(int from)
    {
        int end = from + 1;
        while (end < text.Length && char.IsAsciiLetter(text[end]))
            end++;
        return text[(from + 1)..end];
    }

    /// <summary>Steps over the character or command that <see cref="Peek"/> returned.</summary>
    private void Skip()
    {
        Peek();
        at += text[at] == '\\' ? 1 + Math.Max(1, CommandAt(at).Length) : 1;
    }

    private bool Take(char c)
    {
        if (Peek() != c)
            return false;
        Skip();
        return true;
    }

    /// <summary>Takes a command or bracket such as \} or \rbrace.</summary>
    private bool TakeBrace(char brace)
    {
        Peek();
        if (at + 1 < text.Length && text[at] == '\\' && text[at + 1] == brace)
            at += 2;
        else if (at < text.Length && text[at] == '\\' && CommandAt(at) == (brace == '{' ? "lbrace" : "rbrace"))
            Skip();
        else
            return false;
        return true;
    }

    private string Word()
    {
        Peek();
        int end = at;
        while (end < text.Length && char.IsAsciiLetter(text[end]))
            end++;
        return text[at..end];
    }
}
