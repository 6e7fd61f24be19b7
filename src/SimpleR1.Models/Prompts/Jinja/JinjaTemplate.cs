using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts.Jinja.Library;
using SimpleR1.Models.Prompts.Jinja.Syntax;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja;

/// <summary>
/// A template in the part of Jinja that chat templates use. It renders what transformers renders: Jinja 3.1 with
/// <c>trim_blocks</c>, <c>lstrip_blocks</c>, loop controls and an immutable sandbox.
/// </summary>
public sealed class JinjaTemplate
{
    private readonly IReadOnlyList<Statement> statements;
    private readonly HashSet<string> used;

    private JinjaTemplate(IReadOnlyList<Statement> statements, HashSet<string> used)
    {
        this.statements = statements;
        this.used = used;
    }

    /// <summary>Reads a template.</summary>
    /// <exception cref="JinjaException">
    /// The template is not valid, or uses a tag, filter, test, function or method that is not supported; named.
    /// </exception>
    public static JinjaTemplate Parse(string source)
    {
        var names = new KnownNames();
        return new(Parser.Read(source, names), names.Used);
    }

    /// <summary>Whether the template reads a variable of this name somewhere.</summary>
    public bool Uses(string name) => used.Contains(name);

    /// <param name="variables">Variables by name, as JSON; null is None.</param>
    /// <param name="now">The local time that strftime_now prints.</param>
    /// <exception cref="JinjaException">
    /// The template raises an exception, does what Python refuses, or needs too many steps or too much text.
    /// </exception>
    public string Render(JsonObject variables, DateTime now)
    {
        var globals = new Scope(null);
        foreach (var (name, function) in Functions.Create(now))
            globals.Set(name, function);
        var scope = new Scope(globals);
        foreach (var (name, value) in variables)
            scope.Set(name, JsonValues.Read(value));
        return Meter.Measure(() => new Renderer().Render(statements, new(scope)));
    }
}
