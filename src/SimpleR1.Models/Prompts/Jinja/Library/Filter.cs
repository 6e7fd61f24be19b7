using SimpleR1.Models.Prompts.Jinja.Texts;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>A filter: a function of the value before the bar and of arguments.</summary>
internal sealed record Filter(Parameters Parameters, Func<object, BoundValues, object> Apply)
{
    public static Filter WithoutArguments(Func<object, object> apply) =>
        new(Parameters.None, (value, _) => apply(value));

    /// <summary>A filter of the value's text.</summary>
    public static Filter OfText(Func<string, object> apply) => WithoutArguments(value => apply(PythonText.Of(value)));
}
