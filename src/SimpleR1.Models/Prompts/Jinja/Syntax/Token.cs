namespace SimpleR1.Models.Prompts.Jinja.Syntax;

internal enum TokenKind
{
    /// <summary>Text outside of tags, as it is printed.</summary>
    Text,
    BlockBegin,
    BlockEnd,
    PrintBegin,
    PrintEnd,
    Name,

    /// <summary>A string literal; the token's text is its value.</summary>
    String,
    Integer,
    Float,
    Operator,
    End,
}

/// <param name="Line">From 1.</param>
internal readonly record struct Token(TokenKind Kind, string Text, int Line)
{
    public bool Is(TokenKind kind, string text) => Kind == kind && Text == text;

    /// <summary>For errors.</summary>
    public override string ToString() =>
        Kind switch
        {
            TokenKind.End => "the end of the template",
            TokenKind.BlockEnd => "'%}'",
            TokenKind.PrintEnd => "'}}'",
            TokenKind.Text => "text",
            _ => $"'{Text}'",
        };
}
