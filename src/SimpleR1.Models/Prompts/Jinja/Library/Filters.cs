using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>Jinja's filters by name.</summary>
internal static class Filters
{
    public static readonly IReadOnlyDictionary<string, Filter> All = new Dictionary<string, Filter>([
        .. TextFilters.All,
        .. NumberFilters.All,
        .. SequenceFilters.All,
        .. SelectionFilters.All,
    ]);

    /// <exception cref="ValueException">There is no such filter, or the value or the arguments do not fit.</exception>
    public static object Apply(string name, object value, CallValues call)
    {
        if (!All.TryGetValue(name, out var filter))
            throw new ValueException($"the filter '{name}' is not supported");
        if (value is string text)
            Meter.Step(1 + text.Length / 64);
        return filter.Apply(value, filter.Parameters.Bind(name, call));
    }
}
