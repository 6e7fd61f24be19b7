using System.Globalization;
using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>Reads names, literals and what is in brackets.</summary>
internal sealed class PrimaryParser(TokenStream tokens, KnownNames names)
{
    /// <param name="readInner">Reads an expression in brackets.</param>
    public Expression Read(Func<Expression> readInner)
    {
        var token = tokens.Current;
        switch (token.Kind)
        {
            case TokenKind.Name:
                return ReadName(tokens.Take());
            case TokenKind.String:
                string text = tokens.Take().Text;
                while (tokens.Current.Kind == TokenKind.String) // 'a' 'b' is 'ab'
                    text += tokens.Take().Text;
                return new Constant(text, token.Line);
            case TokenKind.Integer:
                return new Constant(Integer(tokens.Take().Text), token.Line);
            case TokenKind.Float:
                return new Constant(double.Parse(Digits(tokens.Take().Text), CultureInfo.InvariantCulture), token.Line);
        }
        if (tokens.TakeOperator("("))
        {
            var inner = ReadTuple(readInner, inParentheses: true);
            tokens.ExpectOperator(")");
            return inner;
        }
        if (tokens.TakeOperator("["))
            return new SequenceLiteral([.. ReadList("]", readInner)], IsTuple: false, token.Line);
        if (tokens.TakeOperator("{"))
            return new MappingLiteral([.. ReadList("}", () => ReadEntry(readInner))], token.Line);
        throw tokens.Problem($"unexpected {token}");
    }

    private Expression ReadName(Token token)
    {
        names.NoteUse(token.Text);
        return token.Text switch
        {
            "true" or "True" => new Constant(true, token.Line),
            "false" or "False" => new Constant(false, token.Line),
            "none" or "None" => new Constant(None.Value, token.Line),
            _ => new Variable(token.Text, token.Line),
        };
    }

    /// <summary>One expression, or a tuple of those between commas.</summary>
    public Expression ReadTuple(Func<Expression> read, bool inParentheses)
    {
        int line = tokens.Current.Line;
        var items = new List<Expression>();
        bool isTuple = false;
        while (!IsTupleEnd())
        {
            items.Add(read());
            if (!tokens.TakeOperator(","))
                break;
            isTuple = true;
        }
        if (items.Count == 1 && !isTuple)
            return items[0];
        if (items.Count == 0 && !inParentheses)
            throw tokens.Problem($"expected an expression, found {tokens.Current}");
        return new SequenceLiteral(items, IsTuple: true, line);
    }

    private bool IsTupleEnd() =>
        tokens.Current.Kind is TokenKind.PrintEnd or TokenKind.BlockEnd
        || tokens.IsOperator(")")
        || tokens.IsName("recursive");

    private IEnumerable<T> ReadList<T>(string closer, Func<T> read)
    {
        bool first = true;
        while (!tokens.IsOperator(closer))
        {
            if (!first)
                tokens.ExpectOperator(",");
            first = false;
            if (tokens.IsOperator(closer))
                break;
            yield return read();
        }
        tokens.ExpectOperator(closer);
    }

    private (Expression Key, Expression Value) ReadEntry(Func<Expression> read)
    {
        var key = read();
        tokens.ExpectOperator(":");
        return (key, read());
    }

    private static string Digits(string literal) => literal.Replace("_", "", StringComparison.Ordinal);

    private static BigInteger Integer(string literal)
    {
        string digits = Digits(literal).ToLowerInvariant();
        return digits switch
        {
            ['0', 'x', .. var hex] => BigInteger.Parse(
                "0" + hex,
                NumberStyles.AllowHexSpecifier,
                CultureInfo.InvariantCulture
            ),
            ['0', 'b', .. var binary] => InBase(binary, 2),
            ['0', 'o', .. var octal] => InBase(octal, 8),
            _ => BigInteger.Parse(digits, CultureInfo.InvariantCulture),
        };
    }

    private static BigInteger InBase(string digits, int numberBase) =>
        digits.Aggregate(BigInteger.Zero, (sum, digit) => sum * numberBase + (digit - '0'));
}
