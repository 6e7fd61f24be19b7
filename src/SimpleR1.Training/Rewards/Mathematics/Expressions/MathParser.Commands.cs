namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

/// <summary>LaTeX's commands: fractions, roots, functions, matrices, sets.</summary>
internal sealed partial class MathParser
{
    private MathNode? Command()
    {
        if (TakeBrace('{'))
        {
            if (TakeBrace('}'))
                return MathNode.Of(MathKind.Set);
            return Semicolons() is { } inner && TakeBrace('}')
                ? MathNode.Of(MathKind.Set, inner.Kind == MathKind.List ? inner.Items : [inner])
                : null;
        }
        string command = CommandAt(at);
        if (command == "")
            return null;
        at += 1 + command.Length;
        if (Functions.Contains(command))
            return FunctionCall(command);
        switch (command)
        {
            case "frac":
                return Argument() is { } numerator && Argument() is { } denominator
                    ? new(MathKind.Divide, "frac", numerator, denominator)
                    : null;
            case "binom" or "dbinom" or "tbinom":
                return Argument() is { } n && Argument() is { } k ? new(MathKind.Function, "binom", n, k) : null;
            case "pi":
                return Name("pi");
            case "infty":
                return MathNode.Of(MathKind.Infinity);
            case "emptyset" or "varnothing":
                return MathNode.Of(MathKind.Set);
            case "lfloor" or "lceil":
                return Sum() is { } inner && Peek() == '\\' && CommandAt(at) is "rfloor" or "rceil" && TakeCommand()
                    ? new(MathKind.Function, command == "lfloor" ? "floor" : "ceil", inner)
                    : null;
            case "begin":
                return MatrixBody();
            case "mathbb" or "mathbf" or "mathcal" or "vec" or "overline" or "hat" or "bar" or "boldsymbol":
                int start = at;
                if (Argument() is not { } content)
                    return null;
                bool isBold = command is "mathbf" or "boldsymbol";
                return isBold && content.IsConstant && content.Kind != MathKind.Symbol
                    ? content // a number in bold is the number
                    : Name($"{command}{text[start..at].Trim(' ', '{', '}')}");
            case "end" or "rbrace" or "text" or "boxed":
                return null;
            default:
                return Name(command); // a Greek letter, or another name that both answers may share
        }
    }

    private bool TakeCommand()
    {
        Skip();
        return true;
    }

    /// <summary>sin x, sin^2 x, sin(x), log_2 x, sqrt[3]{x}</summary>
    private MathNode? FunctionCall(string name)
    {
        if (name == "sqrt")
        {
            if (Peek() != '[')
                return Argument(true) is { } radicand ? new(MathKind.Function, "sqrt", radicand) : null;
            Skip();
            return Sum() is { } degree && Take(']') && Argument(true) is { } inside
                ? new(MathKind.Function, "root", inside, degree)
                : null;
        }
        MathNode? exponent = null;
        MathNode? radix = null;
        for (char next = Peek(); next is '^' or '_'; next = Peek())
        {
            Skip();
            if (Argument(true) is not { } value)
                return null;
            if (next == '^')
                exponent = value;
            else
                radix = value;
        }
        if (FunctionArgument() is not { } argument)
            return null;
        bool inverse =
            exponent
                is {
                    Kind: MathKind.Negate,
                    Items: [{ Kind: MathKind.Number, Value: { Numerator.IsOne: true, Denominator.IsOne: true } }]
                }
            && name is "sin" or "cos" or "tan";
        if (inverse)
            name = "arc" + name;
        else if (name == "lg")
            name = "log";
        var call = radix is null
            ? new MathNode(MathKind.Function, name, argument)
            : new MathNode(MathKind.Function, name, argument, radix);
        return exponent is null || inverse ? call : MathNode.Of(MathKind.Power, call, exponent);
    }

    /// <summary>What follows a function without brackets: a product up to the next function, sum or comma.</summary>
    private MathNode? FunctionArgument()
    {
        if (Take('-'))
        {
            if (++depth > MaxDepth)
                return null;
            var negated = FunctionArgument();
            depth--;
            return negated is null ? null : MathNode.Of(MathKind.Negate, negated);
        }
        bool bracketed = Peek() == '(';
        var argument = Power();
        while (
            argument is not null
            && !bracketed
            && StartsFactor()
            && !Functions.Contains(Peek() == '\\' ? CommandAt(at) : Word())
        )
            argument = Power() is { } next ? MathNode.Of(MathKind.Multiply, argument, next) : null;
        return argument;
    }

    /// <summary>After \begin: {pmatrix} rows \end{pmatrix}, or {array}{cc}.</summary>
    private MathNode? MatrixBody()
    {
        if (!Take('{'))
            return null;
        string kind = Word();
        at += kind.Length;
        if (kind is not ("pmatrix" or "bmatrix" or "matrix" or "vmatrix" or "array" or "smallmatrix") || !Take('}'))
            return null;
        if (kind == "array" && Peek() == '{')
        {
            int close = text.IndexOf('}', at);
            at = close >= 0 ? close + 1 : text.Length;
        }
        List<MathNode> rows = [];
        List<MathNode> row = [];
        while (true)
        {
            if (Sum() is not { } entry)
                return null;
            row.Add(entry);
            if (Take('&'))
                continue;
            rows.Add(MathNode.Of(MathKind.List, [.. row]));
            row.Clear();
            bool newRow = at + 1 < text.Length && text[at] == '\\' && text[at + 1] == '\\';
            if (newRow)
                at += 2;
            if (Peek() == '\\' && CommandAt(at) == "end")
                break;
            if (!newRow)
                return null;
        }
        Skip();
        if (!Take('{') || Word() != kind)
            return null;
        at += kind.Length;
        return Take('}') && rows.All(r => r.Items.Length == rows[0].Items.Length)
            ? MathNode.Of(MathKind.Matrix, [.. rows])
            : null;
    }
}
