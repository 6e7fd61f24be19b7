using SimpleR1.Models.Prompts.Jinja.Library;

namespace SimpleR1.Models.Prompts.Jinja.Syntax;

/// <summary>
/// Checks the names of filters, tests, functions and methods while a template is read, so that an unknown one is an
/// error before the first prompt.
/// </summary>
internal sealed class KnownNames
{
    private readonly List<(string Name, int Line, bool IsMethod)> calls = [];
    private readonly HashSet<string> assigned = ["caller", "loop", "self", "varargs", "kwargs"];
    private readonly HashSet<string> tested = []; // by "is defined": the template expects that it may be unknown

    /// <summary>Every name that the template reads.</summary>
    public HashSet<string> Used { get; } = [];

    public void NoteUse(string name) => Used.Add(name);

    public void NoteAssignment(string name) => assigned.Add(name);

    public void NoteCall(Expression function)
    {
        if (function is Variable variable)
            calls.Add((variable.Name, variable.Line, false));
        else if (function is Member member)
            calls.Add((member.Name, member.Line, true));
    }

    public void NoteTest(Expression target, string test)
    {
        if (target is Variable variable && test is "defined" or "undefined")
            tested.Add(((Variable)target).Name);
    }

    public void CheckFilter(string name, Arguments arguments, int line)
    {
        if (!Filters.All.TryGetValue(name, out var filter))
            throw new JinjaException(line, $"the filter '{name}' is not supported");
        bool isOpen = arguments.More is not null || arguments.MoreNamed is not null;
        if (
            !isOpen
            && filter.Parameters.Misfit(name, arguments.Positional.Count, arguments.Named.Select(n => n.Name))
                is { } misfit
        )
            throw new JinjaException(line, misfit);

        // map('name'), select('name') and selectattr('member', 'name') name another filter or test.
        int place = name is "selectattr" or "rejectattr" ? 1 : 0;
        if (arguments.Positional.ElementAtOrDefault(place) is not Constant { Value: string other })
            return;
        if (name == "map" && !Filters.All.ContainsKey(other))
            throw new JinjaException(line, $"the filter '{other}' is not supported");
        if (name is "select" or "reject" or "selectattr" or "rejectattr")
            CheckTest(other, line);
    }

    public void CheckTest(string name, int line)
    {
        if (!Tests.All.ContainsKey(name))
            throw new JinjaException(line, $"the test '{name}' is not supported");
    }

    /// <summary>After the whole template: whatever it calls must be known by then.</summary>
    public void CheckCalls()
    {
        foreach (var (name, line, isMethod) in calls)
        {
            if (assigned.Contains(name) || tested.Contains(name))
                continue;
            if (isMethod && !Methods.Names.Contains(name))
                throw new JinjaException(line, $"the method '{name}' is not supported");
            if (!isMethod && !Functions.Names.Contains(name))
                throw new JinjaException(
                    line,
                    $"the function '{name}' is not supported; there are {string.Join(", ", Functions.Names)}"
                );
        }
    }
}
