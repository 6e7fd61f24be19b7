using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>A method of str.</summary>
internal sealed record TextMethod(Parameters Parameters, Func<string, BoundValues, object> Apply)
{
    public static TextMethod Of(Func<string, object> apply) => new(Parameters.None, (text, _) => apply(text));

    public static TextMethod Of(Func<string, bool> apply) => new(Parameters.None, (text, _) => apply(text));

    /// <summary>Calls the method of a text. What a method of Markup returns is Markup again.</summary>
    public object Invoke(object target, string name, CallValues call)
    {
        string text = PythonText.Plain(target);
        Meter.Step(1 + text.Length / 64);
        object result = Apply(text, Parameters.Bind(name, call));
        return target is Markup && result is string marked ? new Markup(marked) : result;
    }
}
