using System.Collections;
using System.Text;

namespace SimpleR1.Training.Recipes;

/// <summary>A recipe as a flat list of keys, such as <c>training.steps</c>, with their values as YAML.</summary>
internal static class RecipeValues
{
    /// <summary>Every key that has a value; a list is one value.</summary>
    public static IEnumerable<KeyValuePair<string, string>> Of(object section) => Of(section, "");

    private static IEnumerable<KeyValuePair<string, string>> Of(object section, string prefix)
    {
        foreach (var key in RecipeKey.Of(section.GetType()))
        {
            string name = prefix + key.Name;
            object? value = key.Property.GetValue(section);
            if (value is not null && RecipeKey.IsSection(key.Type))
            {
                foreach (var inner in Of(value, name + "."))
                    yield return inner;
            }
            else
                yield return new(
                    name,
                    value is IEnumerable list and not string ? List(list) : RecipeWriter.Scalar(value)
                );
        }
    }

    private static string List(IEnumerable values)
    {
        var items = values
            .Cast<object>()
            .Select(v => RecipeKey.IsSection(v.GetType()) ? Map(v) : RecipeWriter.Scalar(v));
        return $"[{string.Join(", ", items)}]";
    }

    private static string Map(object section)
    {
        var text = new StringBuilder("{");
        text.AppendJoin(", ", Of(section).Select(p => $"{p.Key}: {p.Value}"));
        return text.Append('}').ToString();
    }
}
