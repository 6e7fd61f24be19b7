namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>
/// Reads expressions, with Jinja's precedence: or, and, not, comparisons, + -, ~, * / // %, **, signs, filters and tests.
/// </summary>
internal sealed class ExpressionParser(TokenStream tokens, KnownNames names)
{
    private static readonly string[] ComparisonOperators = ["==", "!=", "<", ">", "<=", ">="];

    private readonly PrimaryParser primaries = new(tokens, names);

    public TokenStream Tokens => tokens;

    /// <summary>An expression, or several with commas between them: a tuple.</summary>
    /// <param name="conditional">Whether <c>a if b</c> belongs to the expression.</param>
    public Expression ReadTuple(bool conditional = true) =>
        primaries.ReadTuple(() => Read(conditional), inParentheses: false);

    public Expression Read(bool conditional = true)
    {
        tokens.CheckDepth();
        var expression = ReadOr();
        while (conditional && tokens.IsName("if"))
        {
            int line = tokens.Take().Line;
            var condition = ReadOr();
            var otherwise = tokens.TakeName("else") ? Read() : null;
            expression = new Conditional(condition, expression, otherwise, line);
        }
        return expression;
    }

    private Expression ReadOr()
    {
        var left = ReadAnd();
        while (tokens.TakeName("or"))
            left = new Logical(IsAnd: false, left, ReadAnd(), left.Line);
        return left;
    }

    private Expression ReadAnd()
    {
        var left = ReadNot();
        while (tokens.TakeName("and"))
            left = new Logical(IsAnd: true, left, ReadNot(), left.Line);
        return left;
    }

    private Expression ReadNot()
    {
        if (!tokens.IsName("not"))
            return ReadComparison();
        tokens.CheckDepth();
        int line = tokens.Take().Line;
        return new Not(ReadNot(), line);
    }

    private Expression ReadComparison()
    {
        var first = ReadSum();
        var others = new List<(string, Expression)>();
        while (ComparisonOperator() is { } operation)
            others.Add((operation, ReadSum()));
        return others.Count == 0 ? first : new Comparison(first, others, first.Line);
    }

    /// <summary>Takes an operator; null if the next token is none.</summary>
    private string? ComparisonOperator()
    {
        if (tokens.Current.Kind == TokenKind.Operator && ComparisonOperators.Contains(tokens.Current.Text))
            return tokens.Take().Text;
        if (tokens.TakeName("in"))
            return "in";
        if (!tokens.IsName("not") || !tokens.Following.Is(TokenKind.Name, "in"))
            return null;
        tokens.Take();
        tokens.Take();
        return "not in";
    }

    private Expression ReadSum() => ReadLeft(ReadConcatenation, "+", "-");

    private Expression ReadConcatenation()
    {
        var parts = new List<Expression> { ReadProduct() };
        while (tokens.TakeOperator("~"))
            parts.Add(ReadProduct());
        return parts.Count == 1 ? parts[0] : new Concatenation(parts, parts[0].Line);
    }

    private Expression ReadProduct() => ReadLeft(ReadPower, "*", "/", "//", "%");

    private Expression ReadPower() => ReadLeft(() => ReadUnary(), "**");

    /// <summary>Operators of one precedence, from the left; Jinja's ** too.</summary>
    private Expression ReadLeft(Func<Expression> readOperand, params ReadOnlySpan<string> operators)
    {
        var left = readOperand();
        while (tokens.Current.Kind == TokenKind.Operator && operators.Contains(tokens.Current.Text))
        {
            string operation = tokens.Take().Text;
            left = new Binary(operation, left, readOperand(), left.Line);
        }
        return left;
    }

    private Expression ReadUnary(bool filters = true)
    {
        tokens.CheckDepth();
        var sign = tokens.Current;
        bool isSigned = tokens.TakeOperator("-") || tokens.TakeOperator("+");
        var expression = isSigned
            ? new Sign(sign.Text, ReadUnary(filters: false), sign.Line)
            : primaries.Read(() => Read());
        expression = ReadPostfix(expression);
        return filters ? ReadFilters(expression) : expression;
    }

    /// <summary>Members, indices and calls.</summary>
    private Expression ReadPostfix(Expression target)
    {
        while (true)
        {
            int line = tokens.Current.Line;
            if (tokens.TakeOperator("."))
                target = ReadMember(target, line);
            else if (tokens.TakeOperator("["))
                target = ReadSubscript(target, line);
            else if (tokens.IsOperator("("))
                target = ReadCall(target);
            else
                return target;
        }
    }

    public Call ReadCall(Expression function)
    {
        names.NoteCall(function);
        return new(function, ReadArguments(), function.Line);
    }

    private Expression ReadMember(Expression target, int line)
    {
        if (tokens.Current.Kind == TokenKind.Name)
            return new Member(target, tokens.Take().Text, line);
        if (tokens.Current.Kind == TokenKind.Integer)
            return new Subscript(target, primaries.Read(() => Read()), line);
        throw tokens.Problem($"expected a name or a number after '.', found {tokens.Current}");
    }

    private Expression ReadSubscript(Expression target, int line)
    {
        var indices = new List<Expression>();
        while (!tokens.IsOperator("]"))
        {
            if (indices.Count > 0)
                tokens.ExpectOperator(",");
            indices.Add(ReadIndex());
        }
        tokens.ExpectOperator("]");
        var index = indices.Count == 1 ? indices[0] : new SequenceLiteral(indices, IsTuple: true, line);
        return new Subscript(target, index, line);
    }

    private Expression ReadIndex()
    {
        int line = tokens.Current.Line;
        var start = tokens.IsOperator(":") ? null : Read();
        if (!tokens.TakeOperator(":"))
            return start!;
        var stop = IsBound() ? Read() : null;
        var step = tokens.TakeOperator(":") && IsBound() ? Read() : null;
        return new SliceIndex(start, stop, step, line);
    }

    private bool IsBound() => !(tokens.IsOperator(":") || tokens.IsOperator("]") || tokens.IsOperator(","));

    public Arguments ReadArguments()
    {
        var positional = new List<Expression>();
        var named = new List<(string, Expression)>();
        Expression? more = null;
        Expression? moreNamed = null;
        tokens.ExpectOperator("(");
        while (!tokens.IsOperator(")"))
        {
            if (positional.Count + named.Count > 0 || more is not null)
                tokens.ExpectOperator(",");
            if (tokens.IsOperator(")"))
                break;
            if (moreNamed is not null)
                throw tokens.Problem("an argument follows **");
            if (tokens.TakeOperator("**"))
                moreNamed = Read();
            else if (more is null && tokens.TakeOperator("*"))
                more = Read();
            else if (tokens.Current.Kind == TokenKind.Name && tokens.Following.Is(TokenKind.Operator, "="))
            {
                string name = tokens.Take().Text;
                tokens.Take();
                named.Add((name, Read()));
            }
            else if (named.Count > 0 || more is not null)
                throw tokens.Problem("an argument without a name comes after one with a name");
            else
                positional.Add(Read());
        }
        tokens.ExpectOperator(")");
        return new(positional, named) { More = more, MoreNamed = moreNamed };
    }

    /// <summary>Filters, tests and calls after an expression.</summary>
    private Expression ReadFilters(Expression expression)
    {
        while (true)
        {
            if (tokens.IsOperator("|"))
                expression = ReadFilter(expression);
            else if (tokens.IsName("is"))
                expression = ReadTest(expression);
            else if (tokens.IsOperator("("))
                expression = ReadCall(expression);
            else
                return expression;
        }
    }

    /// <summary>| name | name(arguments) …, all that follow.</summary>
    /// <param name="target">Null for a block, whose text is the target.</param>
    public Expression ReadFilter(Expression? target, bool startsInline = false)
    {
        while (tokens.IsOperator("|") || startsInline)
        {
            if (!startsInline)
                tokens.Take();
            startsInline = false;
            int line = tokens.Current.Line;
            string name = tokens.ExpectName();
            var arguments = tokens.IsOperator("(") ? ReadArguments() : Arguments.None;
            names.CheckFilter(name, arguments, line);
            target = new FilterCall(target, name, arguments, line);
        }
        return target!;
    }

    private Expression ReadTest(Expression target)
    {
        int line = tokens.Take().Line;
        bool negated = tokens.TakeName("not");
        string name = tokens.ExpectName();
        names.CheckTest(name, line);
        names.NoteTest(target, name);

        var arguments = Arguments.None;
        if (tokens.IsOperator("("))
            arguments = ReadArguments();
        else if (StartsOperand())
        {
            if (tokens.IsName("is"))
                throw tokens.Problem("tests can't be chained with 'is'");
            arguments = new([ReadPostfix(primaries.Read(() => Read()))], []);
        }
        var test = new TestCall(target, name, arguments, line);
        return negated ? new Not(test, line) : test;
    }

    /// <summary>Whether a test without parentheses has an argument here.</summary>
    private bool StartsOperand() =>
        tokens.Current.Kind switch
        {
            TokenKind.Name => !(tokens.IsName("else") || tokens.IsName("or") || tokens.IsName("and")),
            TokenKind.String or TokenKind.Integer or TokenKind.Float => true,
            _ => tokens.IsOperator("[") || tokens.IsOperator("{"),
        };
}
