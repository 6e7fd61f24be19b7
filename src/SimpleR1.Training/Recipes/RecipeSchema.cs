using System.Collections;
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using SimpleR1.Models;

namespace SimpleR1.Training.Recipes;

/// <summary>Limits of a number in a recipe, checked before anything is loaded.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class LimitsAttribute : Attribute
{
    public double AtLeast { get; init; } = double.NegativeInfinity;
    public double Above { get; init; } = double.NegativeInfinity;
    public double AtMost { get; init; } = double.PositiveInfinity;
    public double Below { get; init; } = double.PositiveInfinity;

    /// <summary>True when <paramref name="value"/> is a number within the limits.</summary>
    public bool Allow(double value) =>
        value >= AtLeast
        && value <= AtMost
        && (value > Above || double.IsInfinity(Above))
        && (value < Below || double.IsInfinity(Below));

    /// <summary>"at least 1, below 10"</summary>
    public override string ToString() =>
        string.Join(
            ", ",
            new[] { ("at least", AtLeast), ("above", Above), ("at most", AtMost), ("below", Below) }
                .Where(l => !double.IsInfinity(l.Item2))
                .Select(l => $"{l.Item1} {l.Item2.ToString(CultureInfo.InvariantCulture)}")
        );
}

/// <summary>Marks a section that a list can stand for: the list is the value of this key.</summary>
/// <param name="property">The property of the section's record, a <see cref="ValueList{T}"/>.</param>
[AttributeUsage(AttributeTargets.Class)]
public sealed class BareListAttribute(string property) : Attribute
{
    public string Property => property;
}

/// <summary>Marks a section that a text can stand for in a list of them: the text is the value of this key.</summary>
/// <param name="property">The property of the section's record, a text.</param>
[AttributeUsage(AttributeTargets.Class)]
public sealed class BareNameAttribute(string property) : Attribute
{
    public string Property => property;
}

/// <summary>
/// Values of a recipe that exclude each other. The error is shown at the first key. It is left out when one of the keys
/// has an error of its own.
/// </summary>
/// <param name="Message">What is wrong and what to do.</param>
/// <param name="Keys">Paths, relative to the section that reports it, of every key involved.</param>
public sealed record Conflict(string Message, params string[] Keys);

/// <summary>A section of a recipe that checks combinations of its values.</summary>
public interface IRecipeSection
{
    /// <summary>Conflicts within this section. Keys that could not be bound have their defaults here.</summary>
    IEnumerable<Conflict> Validate();
}

/// <summary>An immutable list that compares by its elements, so that recipes compare by value.</summary>
[CollectionBuilder(typeof(ValueList), nameof(ValueList.Create))]
public sealed class ValueList<T>(T[] items) : IReadOnlyList<T>, IEquatable<ValueList<T>>
{
    public int Count => items.Length;
    public T this[int index] => items[index];

    public bool Equals(ValueList<T>? other) => other is not null && items.AsSpan().SequenceEqual(other.AsSpan());

    public override bool Equals(object? other) => Equals(other as ValueList<T>);

    public override int GetHashCode() => items.Aggregate(items.Length, (hash, item) => HashCode.Combine(hash, item));

    public ReadOnlySpan<T> AsSpan() => items;

    public IEnumerator<T> GetEnumerator() => ((IEnumerable<T>)items).GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => items.GetEnumerator();

    public override string ToString() => $"[{string.Join(", ", items)}]";
}

/// <summary>Makes a <see cref="ValueList{T}"/> from a collection expression.</summary>
public static class ValueList
{
    public static ValueList<T> Create<T>(ReadOnlySpan<T> items) => new(items.ToArray());
}

/// <summary>How C# names are written in recipes: keys in snake_case, enum values in kebab-case.</summary>
internal static class RecipeNames
{
    public static string Key(string name) => Separate(name, '_');

    public static string Value(Enum value) => Separate(value.ToString(), '-');

    /// <summary>A key of this type takes one of a few names: those of an enum, or of the model families.</summary>
    public static bool IsChoice(Type type) => type.IsEnum || type == typeof(ModelFamily);

    /// <summary>The names that a key of a choice's type takes.</summary>
    public static IEnumerable<string> Values(Type type) =>
        type == typeof(ModelFamily)
            ? ModelFamily.All.Select(family => family.Name)
            : Enum.GetNames(type).Select(name => Separate(name, '-'));

    private static string Separate(string name, char separator)
    {
        var text = new StringBuilder();
        for (int i = 0; i < name.Length; i++)
        {
            bool beginsWord = char.IsUpper(name[i]) && i > 0 && !char.IsUpper(name[i - 1]); // BF16 is one word
            if (beginsWord)
                text.Append(separator);
            text.Append(char.ToLowerInvariant(name[i]));
        }
        return text.ToString();
    }

    /// <summary>The known name that takes the fewest edits from <paramref name="name"/>; null when none is near.</summary>
    public static string? Nearest(string name, IEnumerable<string> known)
    {
        var best = known
            .Select(k => (Name: k, Distance: EditDistance(name, k)))
            .OrderBy(k => k.Distance)
            .FirstOrDefault();
        return best.Name is not null && best.Distance <= Math.Max(2, name.Length / 3) ? best.Name : null;
    }

    /// <summary>The message for a name that is not known, with the nearest one or all.</summary>
    /// <param name="advice">What else to do when none is near.</param>
    public static string Unknown(string kind, string name, IReadOnlyCollection<string> known, string advice = "")
    {
        string? near = Nearest(name, known);
        return near is null
            ? $"no {kind} is called '{name}' (there are {string.Join(", ", known)}){advice}"
            : $"no {kind} is called '{name}'; did you mean '{near}'?";
    }

    /// <summary>Levenshtein distance; a swap of neighbours counts once.</summary>
    private static int EditDistance(string a, string b)
    {
        var d = new int[a.Length + 1, b.Length + 1];
        for (int i = 0; i <= a.Length; i++)
        for (int j = 0; j <= b.Length; j++)
        {
            if (i == 0 || j == 0)
            {
                d[i, j] = i + j;
                continue;
            }
            d[i, j] = Math.Min(
                Math.Min(d[i - 1, j], d[i, j - 1]) + 1,
                d[i - 1, j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)
            );
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i, j] = Math.Min(d[i, j], d[i - 2, j - 2] + 1);
        }
        return d[a.Length, b.Length];
    }
}
