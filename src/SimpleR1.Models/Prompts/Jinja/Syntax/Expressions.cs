namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>An expression of a template.</summary>
/// <param name="Line">Where it begins, from 1.</param>
internal abstract record Expression(int Line);

internal sealed record Constant(object Value, int Line) : Expression(Line);

internal sealed record Variable(string Name, int Line) : Expression(Line);

internal sealed record SequenceLiteral(IReadOnlyList<Expression> Items, bool IsTuple, int Line) : Expression(Line);

internal sealed record MappingLiteral(IReadOnlyList<(Expression Key, Expression Value)> Entries, int Line)
    : Expression(Line);

/// <summary>target.name</summary>
internal sealed record Member(Expression Target, string Name, int Line) : Expression(Line);

/// <summary>target[index]</summary>
internal sealed record Subscript(Expression Target, Expression Index, int Line) : Expression(Line);

/// <summary>start:stop:step, as an index.</summary>
internal sealed record SliceIndex(Expression? Start, Expression? Stop, Expression? Step, int Line) : Expression(Line);

internal sealed record Call(Expression Function, Arguments Arguments, int Line) : Expression(Line);

/// <summary>target|name(arguments); without a target, the body of a filter block.</summary>
internal sealed record FilterCall(Expression? Target, string Name, Arguments Arguments, int Line) : Expression(Line);

/// <summary>target is name(arguments)</summary>
internal sealed record TestCall(Expression Target, string Name, Arguments Arguments, int Line) : Expression(Line);

/// <summary>+ or - before an operand.</summary>
internal sealed record Sign(string Operator, Expression Operand, int Line) : Expression(Line);

internal sealed record Binary(string Operator, Expression Left, Expression Right, int Line) : Expression(Line);

/// <summary>a ~ b ~ c</summary>
internal sealed record Concatenation(IReadOnlyList<Expression> Parts, int Line) : Expression(Line);

/// <summary>and, or.</summary>
internal sealed record Logical(bool IsAnd, Expression Left, Expression Right, int Line) : Expression(Line);

internal sealed record Not(Expression Operand, int Line) : Expression(Line);

/// <summary>a &lt; b &lt;= c, also with in and not in.</summary>
internal sealed record Comparison(
    Expression First,
    IReadOnlyList<(string Operator, Expression Operand)> Others,
    int Line
) : Expression(Line);

/// <summary>then if condition else otherwise</summary>
internal sealed record Conditional(Expression Condition, Expression Then, Expression? Otherwise, int Line)
    : Expression(Line);

/// <summary>The arguments of a call.</summary>
internal sealed record Arguments(
    IReadOnlyList<Expression> Positional,
    IReadOnlyList<(string Name, Expression Value)> Named
)
{
    public static readonly Arguments None = new([], []);

    /// <summary>*items: further arguments.</summary>
    public Expression? More { get; init; }

    /// <summary>**items: further arguments with names.</summary>
    public Expression? MoreNamed { get; init; }
}
