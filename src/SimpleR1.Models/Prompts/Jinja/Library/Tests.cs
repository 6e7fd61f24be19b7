using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>Jinja's tests by name: what may follow "is".</summary>
internal static class Tests
{
    public static readonly IReadOnlyDictionary<string, Func<object, CallValues, bool>> All = new Dictionary<
        string,
        Func<object, CallValues, bool>
    >
    {
        ["boolean"] = Plain(v => v is bool),
        ["callable"] = Plain(v => v is Callable),
        ["defined"] = Plain(v => v is not Undefined),
        ["divisibleby"] = WithOperand((v, n) => Numbers.Integer(Operators.Binary("%", v, n)).IsZero),
        ["escaped"] = Plain(v => v is Markup),
        ["even"] = Plain(v => Numbers.Integer(v).IsEven),
        ["false"] = Plain(v => v is false),
        ["filter"] = Plain(v => Filters.All.ContainsKey(PythonText.Plain(v))),
        ["float"] = Plain(v => v is double),
        ["in"] = WithOperand((v, container) => Protocols.Contains(container, v)),
        ["integer"] = Plain(v => v is BigInteger),
        ["iterable"] = Plain(Protocols.IsIterable),
        ["lower"] = Plain(v => TextCase.IsLower(PythonText.Of(v))),
        ["mapping"] = Plain(v => v is Mapping),
        ["none"] = Plain(v => v is None),
        ["number"] = Plain(v => v is bool or BigInteger or double),
        ["odd"] = Plain(v => !Numbers.Integer(v).IsEven),
        ["sameas"] = WithOperand(
            (v, other) => v.GetType() == other.GetType() && PythonEquality.Instance.Equals(v, other)
        ),
        ["sequence"] = Plain(v => v is string or Markup or Values.Sequence or Mapping or NumberRange or Undefined),
        ["string"] = Plain(v => v is string or Markup),
        ["test"] = Plain(v => All!.ContainsKey(PythonText.Plain(v))),
        ["true"] = Plain(v => v is true),
        ["undefined"] = Plain(v => v is Undefined),
        ["upper"] = Plain(v => TextCase.IsUpper(PythonText.Of(v))),
        ["eq"] = Compares("=="),
        ["=="] = Compares("=="),
        ["equalto"] = Compares("=="),
        ["ne"] = Compares("!="),
        ["!="] = Compares("!="),
        ["lt"] = Compares("<"),
        ["<"] = Compares("<"),
        ["lessthan"] = Compares("<"),
        ["le"] = Compares("<="),
        ["<="] = Compares("<="),
        ["gt"] = Compares(">"),
        [">"] = Compares(">"),
        ["greaterthan"] = Compares(">"),
        ["ge"] = Compares(">="),
        [">="] = Compares(">="),
    };

    /// <exception cref="ValueException">There is no such test, or the value or the arguments do not fit.</exception>
    public static bool Apply(string name, object value, CallValues call) =>
        All.TryGetValue(name, out var test)
            ? test(value, call)
            : throw new ValueException($"the test '{name}' is not supported");

    private static Func<object, CallValues, bool> Plain(Func<object, bool> test) =>
        (value, call) =>
            call.Positional.Count + call.Named.Count == 0
                ? test(value)
                : throw new ValueException("this test takes no argument");

    private static Func<object, CallValues, bool> WithOperand(Func<object, object, bool> test) =>
        (value, call) =>
            call.Positional.Count == 1 && call.Named.Count == 0
                ? test(value, call.Positional[0])
                : throw new ValueException($"this test takes one argument, found {call.Positional.Count}");

    private static Func<object, CallValues, bool> Compares(string operation) =>
        WithOperand((value, other) => Operators.Compare(operation, value, other));
}
