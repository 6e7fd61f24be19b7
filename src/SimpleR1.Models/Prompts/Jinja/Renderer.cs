using System.Runtime.CompilerServices;
using System.Text;
using SimpleR1.Models.Prompts.Jinja.Syntax;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja;

/// <summary>Runs statements and collects what they print.</summary>
internal sealed class Renderer
{
    private StringBuilder output = new();

    private enum Flow
    {
        Next,
        Break,
        Continue,
    }

    public string Render(IReadOnlyList<Statement> statements, Scope scope)
    {
        Run(statements, scope);
        return output.ToString();
    }

    private Flow Run(IReadOnlyList<Statement> statements, Scope scope)
    {
        foreach (var statement in statements)
        {
            var flow = Guarded(statement, scope);
            if (flow != Flow.Next)
                return flow;
        }
        return Flow.Next;
    }

    private Flow Guarded(Statement statement, Scope scope)
    {
        try
        {
            Meter.Step();
            if (!RuntimeHelpers.TryEnsureSufficientExecutionStack())
                throw new ValueException("calls are nested too deeply");
            return Run(statement, scope);
        }
        catch (ValueException e)
        {
            throw new JinjaException(statement.Line, e.Message, e);
        }
    }

    private Flow Run(Statement statement, Scope scope)
    {
        switch (statement)
        {
            case Text text:
                Print(text.Value);
                break;
            case Output print:
                Print(PythonText.Of(ExpressionEvaluator.Evaluate(print.Value, scope)));
                break;
            case If choice:
                return Run(Choose(choice, scope), scope);
            case For loop:
                RunLoop(loop, scope);
                break;
            case Assign assign:
                Set(assign.Target, ExpressionEvaluator.Evaluate(assign.Value, scope), scope);
                break;
            case AssignBlock block:
                Set(block.Target, Filtered(Capture(block.Body, new(scope)), block.Filter, scope), scope);
                break;
            case MacroDefinition macro:
                scope.Set(macro.Name, MakeMacro(macro.Name, macro.Signature, macro.Body, scope));
                break;
            case CallBlock call:
                Print(PythonText.Of(Invoke(call, scope)));
                break;
            case FilterBlock block:
                Print(PythonText.Of(Filtered(Capture(block.Body, new(scope)), block.Filter, scope)));
                break;
            case Scoped scoped:
                RunScoped(scoped, scope);
                break;
            default:
                return statement is Break ? Flow.Break : Flow.Continue;
        }
        return Flow.Next;
    }

    private void Print(string text)
    {
        Meter.Characters(text.Length);
        Meter.CheckLength(output.Append(text).Length);
    }

    private static IReadOnlyList<Statement> Choose(If choice, Scope scope)
    {
        foreach (var (condition, body) in choice.Branches)
            if (ExpressionEvaluator.IsTrue(condition, scope))
                return body;
        return choice.Otherwise;
    }

    private void RunLoop(For loop, Scope outer)
    {
        var items = LoopItems(loop.Head, outer);
        var state = new LoopState(items, outer.LoopDepth + 1);
        for (int i = 0; i < items.Count; i++)
        {
            state.Index = i;
            var pass = new Scope(outer) { LoopDepth = outer.LoopDepth + 1 };
            Set(loop.Head.Target, items[i], pass);
            pass.Set("loop", state);
            if (Run(loop.Body, pass) == Flow.Break)
                break;
        }
        if (items.Count == 0)
            Run(loop.Otherwise, new(outer));
    }

    private static List<object> LoopItems(LoopHead head, Scope outer)
    {
        var items = new List<object>();
        foreach (object item in Protocols.Iterate(ExpressionEvaluator.Evaluate(head.Items, outer)))
        {
            Meter.Step();
            if (head.Filter is not null)
            {
                var scope = new Scope(outer);
                Set(head.Target, item, scope);
                if (!ExpressionEvaluator.IsTrue(head.Filter, scope))
                    continue;
            }
            items.Add(item);
        }
        return items;
    }

    private static void Set(Target target, object value, Scope scope)
    {
        switch (target)
        {
            case NameTarget name:
                scope.Set(name.Name, value);
                break;
            case NamespaceTarget member:
                if (scope.Get(member.Name) is not Namespace space)
                    throw new ValueException("cannot assign attribute on non-namespace object");
                space.Members[member.Member] = value;
                break;
            case TupleTarget tuple:
                object[] items = [.. Protocols.Iterate(value).Take(tuple.Items.Count + 1)];
                if (items.Length != tuple.Items.Count)
                    throw new ValueException($"expected {tuple.Items.Count} values to unpack, found {items.Length}");
                for (int i = 0; i < items.Length; i++)
                    Set(tuple.Items[i], items[i], scope);
                break;
        }
    }

    /// <summary>What statements print, as a text.</summary>
    private string Capture(IReadOnlyList<Statement> body, Scope scope)
    {
        var around = output;
        output = new();
        try
        {
            Run(body, scope);
            return output.ToString();
        }
        finally
        {
            output = around;
        }
    }

    private static object Filtered(string text, Expression? filters, Scope scope) =>
        filters is null ? text : ExpressionEvaluator.ApplyFilters(filters, text, scope);

    private void RunScoped(Scoped scoped, Scope outer)
    {
        var scope = new Scope(outer);
        foreach (var (target, value) in scoped.Assignments)
            Set(target, ExpressionEvaluator.Evaluate(value, outer), scope);
        Run(scoped.Body, scope);
    }

    private object Invoke(CallBlock block, Scope scope)
    {
        if (ExpressionEvaluator.Evaluate(block.Call.Function, scope) is not Callable callable)
            throw new ValueException("a call block needs the call of a macro");
        var values = ExpressionEvaluator.Values(block.Call.Arguments, scope);
        var named = new Dictionary<string, object>(values.Named)
        {
            ["caller"] = MakeMacro("caller", block.Signature, block.Body, scope),
        };
        return callable.Invoke(values with { Named = named });
    }

    private Callable MakeMacro(string name, Signature signature, IReadOnlyList<Statement> body, Scope defined) =>
        new(
            name,
            call =>
            {
                var scope = new Scope(defined) { LoopDepth = 0 };
                BindParameters(name, signature, call, scope);
                return Capture(body, scope);
            }
        );

    private static void BindParameters(string macro, Signature signature, CallValues call, Scope scope)
    {
        var parameters = signature.Parameters;
        if (call.Positional.Count > parameters.Count && !signature.HasMore)
            throw new ValueException($"macro '{macro}' takes not more than {parameters.Count} argument(s)");
        var others = call.Named.Where(n => n.Key != "caller" && !parameters.Contains(n.Key)).ToArray();
        if (others.Length > 0 && !signature.HasMoreNamed)
            throw new ValueException($"macro '{macro}' takes no keyword argument '{others[0].Key}'");
        scope.Set("varargs", new Sequence([.. call.Positional.Skip(parameters.Count)], isTuple: true));
        scope.Set("kwargs", new Mapping(others.Select(o => KeyValuePair.Create((object)o.Key, o.Value))));

        for (int i = 0; i < parameters.Count; i++)
        {
            string name = parameters[i];
            int place = i - (parameters.Count - signature.Defaults.Count);
            if (i < call.Positional.Count && call.Named.ContainsKey(name))
                throw new ValueException($"macro '{macro}' got two values for the argument '{name}'");
            if (i < call.Positional.Count)
                scope.Set(name, call.Positional[i]);
            else if (call.Named.TryGetValue(name, out object? value))
                scope.Set(name, value);
            else if (place >= 0)
                scope.Set(name, ExpressionEvaluator.Evaluate(signature.Defaults[place], scope));
            else
                scope.Set(name, new Undefined($"parameter '{name}' was not provided"));
        }
        if (call.Named.TryGetValue("caller", out object? caller))
            scope.Set("caller", caller);
    }
}
