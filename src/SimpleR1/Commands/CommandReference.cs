using System.CommandLine;
using System.CommandLine.Completions;
using System.Globalization;
using System.Text;

namespace SimpleR1.Commands;

/// <summary>The command reference, generated from the command line so that it can't be out of date.</summary>
internal static class CommandReference
{
    private const int Width = 110;

    /// <summary>The text of <c>docs/commands.md</c>.</summary>
    /// <param name="commands">The root's commands, in any order.</param>
    public static string Markdown(IEnumerable<Command> commands)
    {
        var text = new StringBuilder(
            """
            # Commands

            Generated from the code by `simple-r1 command-reference`; a test checks that it is up to date.

            `simple-r1` stands for `dotnet run -c Release --project src/SimpleR1 --`. Each command has `--help`. Exit codes: 0 done,
            1 failed (the error says what to do), 2 wrong command line; 130, 143 and 129 stopped by Ctrl-C, SIGTERM and SIGHUP
            with work left.

            """
        );
        foreach (var command in commands.OrderBy(c => c.Name, StringComparer.Ordinal))
            Append(text, command, "simple-r1");
        return text.ToString();
    }

    /// <summary>Writes <see cref="Markdown"/> to a file.</summary>
    public static void Write(string path, IEnumerable<Command> commands) => File.WriteAllText(path, Markdown(commands));

    private static void Append(StringBuilder text, Command command, string parent)
    {
        string path = $"{parent} {command.Name}";
        string usage = string.Concat(command.Arguments.Select(a => " " + a.Name.ToUpperInvariant()));
        text.Append($"\n## `{path}{usage}`\n\n");
        AppendWrapped(text, $"{command.Description}.", "");

        if (command.Arguments.Count + command.Options.Count > 0)
            text.Append('\n');
        foreach (var argument in command.Arguments)
            AppendWrapped(
                text,
                $"- `{argument.Name.ToUpperInvariant()}`{Facts(argument)}: {argument.Description}.",
                "  "
            );
        foreach (var option in command.Options)
            AppendWrapped(text, $"- `{Names(option)}`{Facts(option)}: {option.Description}.", "  ");

        foreach (var subcommand in command.Subcommands)
            Append(text, subcommand, path);
    }

    private static string Names(Option option)
    {
        string names = string.Join(", ", option.Aliases.Order(StringComparer.Ordinal).Append(option.Name));
        return option.ValueType == typeof(bool) ? names : $"{names} {Value(option.ValueType)}";
    }

    /// <summary>A word for what follows an option.</summary>
    private static string Value(Type type)
    {
        var element = type.IsArray ? type.GetElementType()! : Nullable.GetUnderlyingType(type) ?? type;
        if (element == typeof(string))
            return "TEXT";
        if (element.IsEnum)
            return "NAME";
        return element == typeof(double) ? "NUMBER" : "N";
    }

    private static string Facts(Argument argument) =>
        Facts(
            argument.GetCompletions(CompletionContext.Empty),
            argument.HasDefaultValue ? argument.GetDefaultValue : null
        );

    private static string Facts(Option option)
    {
        var choices = option.ValueType == typeof(bool) ? [] : option.GetCompletions(CompletionContext.Empty);
        string facts = Facts(choices, option.HasDefaultValue ? option.GetDefaultValue : null);
        return option.Required ? " (required)" + facts : facts;
    }

    /// <summary>The values that are accepted, where there are few, and the default.</summary>
    private static string Facts(IEnumerable<CompletionItem> choices, Func<object?>? makeDefault)
    {
        var facts = new List<string>();
        string[] labels = [.. choices.Select(c => c.Label).Order(StringComparer.Ordinal)];
        if (labels.Length > 0)
            facts.Add(string.Join(", ", labels.Select(l => $"`{l}`")));

        // A default that differs from call to call is drawn at random.
        if (makeDefault?.Invoke() is { } value && Text(value) is { Length: > 0 } shown)
            facts.Add(shown == Text(makeDefault()!) ? $"default `{shown}`" : "default random");
        return facts.Count == 0 ? "" : $" ({string.Join("; ", facts)})";
    }

    private static string Text(object value) =>
        value is Array or false ? "" : Convert.ToString(value, CultureInfo.InvariantCulture) ?? "";

    /// <summary>Appends words, broken into lines; the second and later lines begin with the indentation.</summary>
    private static void AppendWrapped(StringBuilder text, string words, string indentation)
    {
        int column = 0;
        foreach (string word in words.Split(' '))
        {
            if (column > 0 && column + 1 + word.Length > Width)
            {
                text.Append('\n').Append(indentation);
                column = indentation.Length;
            }
            else if (column > 0)
            {
                text.Append(' ');
                column++;
            }
            text.Append(word);
            column += word.Length;
        }
        text.Append('\n');
    }
}
