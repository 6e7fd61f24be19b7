using System.Runtime.CompilerServices;

namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>A place in a template's tokens.</summary>
internal sealed class TokenStream(List<Token> tokens)
{
    private int position;

    public Token Current => tokens[position];

    /// <summary>The token after the current one.</summary>
    public Token Following => tokens[Math.Min(position + 1, tokens.Count - 1)];

    public bool IsOperator(string text) => Current.Is(TokenKind.Operator, text);

    public bool IsName(string text) => Current.Is(TokenKind.Name, text);

    /// <summary>The current token; moves to the next one.</summary>
    public Token Take()
    {
        var token = Current;
        if (position < tokens.Count - 1)
            position++;
        return token;
    }

    public bool TakeOperator(string text)
    {
        bool found = IsOperator(text);
        if (found)
            Take();
        return found;
    }

    public bool TakeName(string text)
    {
        bool found = IsName(text);
        if (found)
            Take();
        return found;
    }

    public void ExpectOperator(string text)
    {
        if (!TakeOperator(text))
            throw Problem($"expected '{text}', found {Current}");
    }

    public void ExpectName(string text)
    {
        if (!TakeName(text))
            throw Problem($"expected '{text}', found {Current}");
    }

    /// <summary>Takes any name.</summary>
    public string ExpectName()
    {
        if (Current.Kind != TokenKind.Name)
            throw Problem($"expected a name, found {Current}");
        return Take().Text;
    }

    public void Expect(TokenKind kind)
    {
        if (Current.Kind != kind)
            throw Problem($"expected {new Token(kind, "", 0)}, found {Current}");
        Take();
    }

    public JinjaException Problem(string problem) => new(Current.Line, problem);

    /// <exception cref="JinjaException">The template is nested so deeply that reading on could end the process.</exception>
    public void CheckDepth()
    {
        if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
            throw Problem("the template is nested too deeply");
    }
}
