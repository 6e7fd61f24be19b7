namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>Reads a template's statements.</summary>
internal sealed class Parser
{
    private static readonly string[] Unsupported =
    [
        "block",
        "extends",
        "include",
        "import",
        "from",
        "autoescape",
        "do",
        "trans",
        "debug",
    ];

    private readonly TokenStream tokens;
    private readonly KnownNames names;
    private readonly ExpressionParser expressions;
    private int loops; // around the current place

    private Parser(List<Token> tokens, KnownNames names)
    {
        this.tokens = new(tokens);
        this.names = names;
        expressions = new(this.tokens, names);
    }

    /// <exception cref="JinjaException">The template is not valid, or uses what is not supported; named.</exception>
    public static IReadOnlyList<Statement> Read(string source, KnownNames names)
    {
        var parser = new Parser(Lexer.Read(source), names);
        var statements = parser.ReadBody();
        if (parser.tokens.Current.Kind != TokenKind.End)
            throw parser.tokens.Problem($"'{parser.tokens.Current.Text}' ends nothing that has begun");
        names.CheckCalls();
        return statements;
    }

    /// <summary>Statements up to one of these names in a tag, whose name is then the current token.</summary>
    private List<Statement> ReadBody(params string[] ends)
    {
        tokens.CheckDepth();
        var statements = new List<Statement>();
        while (true)
        {
            var token = tokens.Current;
            switch (token.Kind)
            {
                case TokenKind.Text:
                    statements.Add(new Text(tokens.Take().Text, token.Line));
                    break;
                case TokenKind.PrintBegin:
                    tokens.Take();
                    statements.Add(new Output(expressions.ReadTuple(), token.Line));
                    tokens.Expect(TokenKind.PrintEnd);
                    break;
                case TokenKind.BlockBegin when IsEnd(tokens.Following, ends):
                    tokens.Take();
                    return statements;
                case TokenKind.BlockBegin:
                    tokens.Take();
                    statements.Add(ReadStatement());
                    tokens.Expect(TokenKind.BlockEnd);
                    break;
                default:
                    if (ends.Length > 0)
                        throw tokens.Problem($"'{ends[^1]}' is missing");
                    return statements;
            }
        }
    }

    private static bool IsEnd(Token token, string[] ends) =>
        token.Kind == TokenKind.Name
        && (ends.Contains(token.Text) || ends.Length == 0 && token.Text.StartsWith("end", StringComparison.Ordinal));

    /// <summary>The body of a statement whose opening tag ends here, and its end's name.</summary>
    private List<Statement> ReadBlock(string end)
    {
        tokens.Expect(TokenKind.BlockEnd);
        var body = ReadBody(end);
        tokens.ExpectName(end);
        return body;
    }

    /// <summary>The body of something that a surrounding loop's break can't leave.</summary>
    private List<Statement> ReadOwnBlock(string end)
    {
        int around = loops;
        loops = 0;
        var body = ReadBlock(end);
        loops = around;
        return body;
    }

    private Statement ReadStatement()
    {
        int line = tokens.Current.Line;
        string keyword = tokens.ExpectName();
        return keyword switch
        {
            "for" => ReadFor(line),
            "if" => ReadIf(line),
            "set" => ReadSet(line),
            "macro" => ReadMacro(line),
            "call" => ReadCallBlock(line),
            "filter" => new FilterBlock(
                expressions.ReadFilter(null, startsInline: true),
                ReadOwnBlock("endfilter"),
                line
            ),
            "with" => ReadWith(line),
            "generation" => new Scoped([], ReadOwnBlock("endgeneration"), line),
            "print" => new Output(expressions.ReadTuple(), line),
            "break" when loops > 0 => new Break(line),
            "continue" when loops > 0 => new Continue(line),
            "break" or "continue" => throw new JinjaException(line, $"'{keyword}' is outside of a loop"),
            _ when Unsupported.Contains(keyword) => throw new JinjaException(line, $"'{keyword}' is not supported"),
            _ => throw new JinjaException(line, $"unknown tag '{keyword}'"),
        };
    }

    private For ReadFor(int line)
    {
        var target = ReadTarget(withNamespace: false);
        tokens.ExpectName("in");
        var items = expressions.ReadTuple(conditional: false);
        var filter = tokens.TakeName("if") ? expressions.Read() : null;
        if (tokens.IsName("recursive"))
            throw tokens.Problem("a recursive loop is not supported");
        tokens.Expect(TokenKind.BlockEnd);

        loops++;
        var body = ReadBody("else", "endfor");
        loops--;
        var otherwise = tokens.TakeName("else") ? ReadElse("endfor") : [];
        tokens.ExpectName("endfor");
        return new(new(target, items, filter), body, otherwise, line);
    }

    private List<Statement> ReadElse(string end)
    {
        tokens.Expect(TokenKind.BlockEnd);
        return ReadBody(end);
    }

    private If ReadIf(int line)
    {
        var branches = new List<(Expression, IReadOnlyList<Statement>)>();
        do
        {
            var condition = expressions.ReadTuple(conditional: false);
            tokens.Expect(TokenKind.BlockEnd);
            branches.Add((condition, ReadBody("elif", "else", "endif")));
        } while (tokens.TakeName("elif"));

        var otherwise = tokens.TakeName("else") ? ReadElse("endif") : [];
        tokens.ExpectName("endif");
        return new(branches, otherwise, line);
    }

    private Statement ReadSet(int line)
    {
        var target = ReadTarget(withNamespace: true);
        if (tokens.TakeOperator("="))
            return new Assign(target, expressions.ReadTuple(), line);
        var filter = tokens.IsOperator("|") ? expressions.ReadFilter(null) : null;
        return new AssignBlock(target, filter, ReadOwnBlock("endset"), line);
    }

    private MacroDefinition ReadMacro(int line)
    {
        string name = tokens.ExpectName();
        names.NoteAssignment(name);
        var signature = ReadSignature();

        // What the body reads decides whether further arguments are allowed.
        string[] before = [.. names.Used];
        names.Used.Clear();
        var body = ReadOwnBlock("endmacro");
        bool hasMore = names.Used.Contains("varargs");
        bool hasMoreNamed = names.Used.Contains("kwargs");
        names.Used.UnionWith(before);
        return new(name, signature with { HasMore = hasMore, HasMoreNamed = hasMoreNamed }, body, line);
    }

    private CallBlock ReadCallBlock(int line)
    {
        var signature = tokens.IsOperator("(") ? ReadSignature() : new([], []);
        if (expressions.Read() is not Call call)
            throw new JinjaException(line, "a call block needs the call of a macro");
        return new(call, signature, ReadOwnBlock("endcall"), line);
    }

    private Signature ReadSignature()
    {
        var parameters = new List<string>();
        var defaults = new List<Expression>();
        tokens.ExpectOperator("(");
        while (!tokens.IsOperator(")"))
        {
            if (parameters.Count > 0)
                tokens.ExpectOperator(",");
            if (tokens.IsOperator(")"))
                break;
            parameters.Add(tokens.ExpectName());
            names.NoteAssignment(parameters[^1]);
            if (tokens.TakeOperator("="))
                defaults.Add(expressions.Read());
            else if (defaults.Count > 0)
                throw tokens.Problem("a parameter without a default follows one with a default");
        }
        tokens.ExpectOperator(")");
        return new(parameters, defaults);
    }

    private Scoped ReadWith(int line)
    {
        var assignments = new List<(Target, Expression)>();
        while (tokens.Current.Kind != TokenKind.BlockEnd)
        {
            if (assignments.Count > 0)
                tokens.ExpectOperator(",");
            var target = ReadOneTarget(withNamespace: false);
            tokens.ExpectOperator("=");
            assignments.Add((target, expressions.Read()));
        }
        return new(assignments, ReadBlock("endwith"), line);
    }

    /// <summary>A name, a namespace's member, or several with commas between them.</summary>
    private Target ReadTarget(bool withNamespace)
    {
        var first = ReadOneTarget(withNamespace);
        if (!tokens.IsOperator(","))
            return first;

        var items = new List<Target> { first };
        while (tokens.TakeOperator(","))
            if (tokens.Current.Kind == TokenKind.Name && !tokens.IsName("in") || tokens.IsOperator("("))
                items.Add(ReadOneTarget(withNamespace));
        return new TupleTarget(items);
    }

    private Target ReadOneTarget(bool withNamespace)
    {
        if (tokens.TakeOperator("("))
        {
            var inner = ReadTarget(withNamespace);
            tokens.ExpectOperator(")");
            return inner;
        }
        string name = tokens.ExpectName();
        if (withNamespace && tokens.TakeOperator("."))
        {
            string member = tokens.ExpectName();
            names.NoteAssignment(member);
            return new NamespaceTarget(name, member);
        }
        if (name is "true" or "True" or "false" or "False" or "none" or "None" or "loop")
            throw tokens.Problem($"'{name}' can't be assigned");
        names.NoteAssignment(name);
        return new NameTarget(name);
    }
}
