namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>A part of a template.</summary>
/// <param name="Line">Where it begins, from 1.</param>
internal abstract record Statement(int Line);

internal sealed record Text(string Value, int Line) : Statement(Line);

internal sealed record Output(Expression Value, int Line) : Statement(Line);

internal sealed record If(
    IReadOnlyList<(Expression Condition, IReadOnlyList<Statement> Body)> Branches,
    IReadOnlyList<Statement> Otherwise,
    int Line
) : Statement(Line);

internal sealed record For(LoopHead Head, IReadOnlyList<Statement> Body, IReadOnlyList<Statement> Otherwise, int Line)
    : Statement(Line);

/// <summary>for target in items if filter</summary>
internal sealed record LoopHead(Target Target, Expression Items, Expression? Filter);

internal sealed record Assign(Target Target, Expression Value, int Line) : Statement(Line);

/// <summary>{% set target %}…{% endset %}</summary>
internal sealed record AssignBlock(Target Target, Expression? Filter, IReadOnlyList<Statement> Body, int Line)
    : Statement(Line);

internal sealed record MacroDefinition(string Name, Signature Signature, IReadOnlyList<Statement> Body, int Line)
    : Statement(Line);

/// <summary>{% call(parameters) function(…) %}…{% endcall %}</summary>
internal sealed record CallBlock(Call Call, Signature Signature, IReadOnlyList<Statement> Body, int Line)
    : Statement(Line);

internal sealed record FilterBlock(Expression Filter, IReadOnlyList<Statement> Body, int Line) : Statement(Line);

/// <summary>{% with a = 1 %}, and without assignments {% generation %}: statements with variables of their own.</summary>
internal sealed record Scoped(
    IReadOnlyList<(Target Target, Expression Value)> Assignments,
    IReadOnlyList<Statement> Body,
    int Line
) : Statement(Line);

internal sealed record Break(int Line) : Statement(Line);

internal sealed record Continue(int Line) : Statement(Line);

/// <summary>A macro's parameters; the last ones may have defaults.</summary>
internal sealed record Signature(IReadOnlyList<string> Parameters, IReadOnlyList<Expression> Defaults)
{
    /// <summary>Whether the body reads <c>varargs</c>: further arguments are allowed then.</summary>
    public bool HasMore { get; init; }

    /// <summary>Whether the body reads <c>kwargs</c>: further arguments with names are allowed then.</summary>
    public bool HasMoreNamed { get; init; }
}

/// <summary>What an assignment or a loop sets.</summary>
internal abstract record Target;

internal sealed record NameTarget(string Name) : Target;

internal sealed record NamespaceTarget(string Name, string Member) : Target;

internal sealed record TupleTarget(IReadOnlyList<Target> Items) : Target;
