using System.Runtime.CompilerServices;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Library;
using SimpleR1.Models.Prompts.Jinja.Syntax;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja;

/// <summary>Computes expressions.</summary>
internal static class ExpressionEvaluator
{
    /// <exception cref="JinjaException">Python would refuse; the message has the line.</exception>
    public static object Evaluate(Expression expression, Scope scope)
    {
        try
        {
            Meter.Step();
            if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
                throw new ValueException("calls are nested too deeply");
            return Compute(expression, scope);
        }
        catch (ValueException e)
        {
            throw new JinjaException(expression.Line, e.Message, e);
        }
    }

    public static bool IsTrue(Expression expression, Scope scope) => Protocols.IsTrue(Evaluate(expression, scope));

    private static object Compute(Expression expression, Scope scope) =>
        expression switch
        {
            Constant constant => constant.Value,
            Variable variable => scope.Get(variable.Name),
            SequenceLiteral list => new Sequence([.. list.Items.Select(i => Evaluate(i, scope))], list.IsTuple),
            MappingLiteral mapping => MakeMapping(mapping, scope),
            Member member => Members.Member(Evaluate(member.Target, scope), member.Name),
            Subscript { Index: SliceIndex slice } subscript => Slice(Evaluate(subscript.Target, scope), slice, scope),
            Subscript subscript => Members.Item(Evaluate(subscript.Target, scope), Evaluate(subscript.Index, scope)),
            Call call => Invoke(call, scope),
            FilterCall filter => ApplyFilter(filter, Evaluate(filter.Target!, scope), scope),
            TestCall test => Tests.Apply(test.Name, Evaluate(test.Target, scope), Values(test.Arguments, scope)),
            Sign sign => Operators.Sign(sign.Operator, Evaluate(sign.Operand, scope)),
            Binary binary => Operators.Binary(
                binary.Operator,
                Evaluate(binary.Left, scope),
                Evaluate(binary.Right, scope)
            ),
            Concatenation concatenation => Concatenate(concatenation, scope),
            Logical logical => Choose(logical, scope),
            Not not => !IsTrue(not.Operand, scope),
            Comparison comparison => Compare(comparison, scope),
            Conditional conditional => Choose(conditional, scope),
            _ => throw new ValueException("an index with ':' is only possible in brackets"),
        };

    public static CallValues Values(Arguments arguments, Scope scope)
    {
        if (arguments == Arguments.None)
            return CallValues.Empty;
        List<object> positional = [.. arguments.Positional.Select(a => Evaluate(a, scope))];
        if (arguments.More is { } more)
            positional.AddRange(Protocols.Iterate(Evaluate(more, scope)));
        var named = new Dictionary<string, object>();
        foreach (var (name, value) in arguments.Named)
            if (!named.TryAdd(name, Evaluate(value, scope)))
                throw new ValueException($"the argument '{name}' is given twice");
        if (arguments.MoreNamed is { } moreNamed)
            foreach (var (name, value) in Entries(Evaluate(moreNamed, scope)))
                if (!named.TryAdd(PythonText.Plain(name), value))
                    throw new ValueException($"the argument '{PythonText.Plain(name)}' is given twice");
        return new(positional, named);
    }

    private static IEnumerable<KeyValuePair<object, object>> Entries(object value) =>
        value is Mapping mapping
            ? mapping.Entries
            : throw new ValueException($"argument after ** must be a mapping, not {TypeNames.Of(value)}");

    /// <param name="target">The value before the filters.</param>
    public static object ApplyFilters(Expression filters, string target, Scope scope)
    {
        var filter = (FilterCall)filters;
        object value = filter.Target is null ? target : ApplyFilters(filter.Target, target, scope);
        try
        {
            return ApplyFilter(filter, value, scope);
        }
        catch (ValueException e)
        {
            throw new JinjaException(filter.Line, e.Message, e);
        }
    }

    private static object ApplyFilters(Expression filters, object target, Scope scope)
    {
        var filter = (FilterCall)filters;
        object value = filter.Target is null ? target : ApplyFilters(filter.Target, target, scope);
        return ApplyFilter(filter, value, scope);
    }

    private static object ApplyFilter(FilterCall filter, object value, Scope scope) =>
        Filters.Apply(filter.Name, value, Values(filter.Arguments, scope));

    private static Mapping MakeMapping(MappingLiteral literal, Scope scope)
    {
        var mapping = new Mapping();
        foreach (var (key, value) in literal.Entries)
            mapping.Entries[Evaluate(key, scope)] = Evaluate(value, scope);
        return mapping;
    }

    private static object Slice(object value, SliceIndex slice, Scope scope)
    {
        object? start = slice.Start is null ? null : Evaluate(slice.Start, scope);
        object? stop = slice.Stop is null ? null : Evaluate(slice.Stop, scope);
        object? step = slice.Step is null ? null : Evaluate(slice.Step, scope);
        return Members.Slice(value, start, stop, step);
    }

    private static object Invoke(Call call, Scope scope)
    {
        object function = Evaluate(call.Function, scope);
        return function switch
        {
            Callable callable => callable.Invoke(Values(call.Arguments, scope)),
            Undefined undefined => throw new ValueException(undefined.Problem),
            _ => throw new ValueException($"'{TypeNames.Of(function)}' object is not callable"),
        };
    }

    private static object Concatenate(Concatenation concatenation, Scope scope)
    {
        var text = new StringBuilder();
        foreach (var part in concatenation.Parts)
        {
            text.Append(PythonText.Of(Evaluate(part, scope)));
            Meter.CheckLength(text.Length);
        }
        return Meter.Text(text.ToString());
    }

    private static object Choose(Logical logical, Scope scope)
    {
        object left = Evaluate(logical.Left, scope);
        return Protocols.IsTrue(left) == logical.IsAnd ? Evaluate(logical.Right, scope) : left;
    }

    private static object Compare(Comparison comparison, Scope scope)
    {
        object left = Evaluate(comparison.First, scope);
        foreach (var (operation, operand) in comparison.Others)
        {
            object right = Evaluate(operand, scope);
            if (!Operators.Compare(operation, left, right))
                return false;
            left = right;
        }
        return true;
    }

    private static object Choose(Conditional conditional, Scope scope)
    {
        if (IsTrue(conditional.Condition, scope))
            return Evaluate(conditional.Then, scope);
        return conditional.Otherwise is { } otherwise
            ? Evaluate(otherwise, scope)
            : new Undefined("the inline if-expression evaluated to false and no else section was defined");
    }
}
