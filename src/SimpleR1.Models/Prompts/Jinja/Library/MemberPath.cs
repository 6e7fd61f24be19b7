using System.Globalization;
using System.Numerics;
using SimpleR1.Models.Prompts.Jinja.Texts;
using SimpleR1.Models.Prompts.Jinja.Values;

namespace SimpleR1.Models.Prompts.Jinja.Library;

/// <summary>Members by a path such as <c>function.name</c> or <c>items.0</c>, as filters name them.</summary>
internal static class MemberPath
{
    /// <param name="path">A path or an index; null reads the value itself.</param>
    /// <param name="otherwise">For a member that does not exist; null leaves it undefined.</param>
    public static Func<object, object> Reader(object? path, object? otherwise)
    {
        if (path is null)
            return value => value;
        object[] parts = path is string or Markup ? [.. PythonText.Plain(path).Split('.').Select(Part)] : [path];
        return value => Read(value, parts, otherwise);
    }

    private static object Part(string text) =>
        text.Length > 0 && text.All(char.IsAsciiDigit) ? BigInteger.Parse(text, CultureInfo.InvariantCulture) : text;

    private static object Read(object value, object[] parts, object? otherwise)
    {
        foreach (object part in parts)
        {
            value = Members.Item(value, part);
            if (value is Undefined && otherwise is not null)
                value = otherwise;
        }
        return value;
    }
}
