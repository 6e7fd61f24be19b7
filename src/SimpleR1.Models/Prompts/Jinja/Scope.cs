using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja;

/// <summary>Variables of a loop's pass, a macro's call or the whole template; names not found are looked up outside.</summary>
internal sealed class Scope(Scope? outer)
{
    private readonly Dictionary<string, object> variables = [];

    /// <summary>Loops around this place, within its macro.</summary>
    public int LoopDepth { get; init; } = outer?.LoopDepth ?? 0;

    public void Set(string name, object value) => variables[name] = value;

    public object Get(string name)
    {
        for (var scope = this; scope is not null; scope = scope.Outer)
            if (scope.variables.TryGetValue(name, out object? value))
                return value;
        return Undefined.Name(name);
    }

    private Scope? Outer => outer;
}
