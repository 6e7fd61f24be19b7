using System.CommandLine;

namespace SimpleR1.Commands.Options;

/// <summary>Short ways to build a command: options and arguments add themselves to it.</summary>
internal static class CommandExtensions
{
    public static Argument<string> AddArgument(this Command command, string name)
    {
        var argument = new Argument<string>(name);
        command.Add(argument);
        return argument;
    }

    /// <summary>Adds an option without a value of its own: null, false or empty if it is not given.</summary>
    public static Option<T> AddOption<T>(this Command command, string name, params string[] aliases)
    {
        var option = new Option<T>(name, aliases);
        command.Add(option);
        return option;
    }

    /// <summary>Adds an option with a default value.</summary>
    public static Option<T> AddDefault<T>(this Command command, string name, T value)
    {
        var option = command.AddOption<T>(name);
        option.DefaultValueFactory = _ => value;
        return option;
    }

    /// <summary>Gives the option a default that differs from call to call.</summary>
    public static Option<T> WithDefault<T>(this Option<T> option, Func<T> makeDefault)
    {
        option.DefaultValueFactory = _ => makeDefault();
        return option;
    }

    public static TSymbol Describe<TSymbol>(this TSymbol symbol, string description)
        where TSymbol : Symbol
    {
        symbol.Description = description;
        return symbol;
    }

    public static Option<T> Require<T>(this Option<T> option)
    {
        option.Required = true;
        return option;
    }

    /// <summary>What the command does; errors that a user can correct become a message.</summary>
    /// <param name="run">Returns the exit code.</param>
    public static void SetHandler(this Command command, Func<ParseResult, Task<int>> run) =>
        command.SetAction((parse, _) => CommandErrors.RunAsync(() => run(parse)));

    /// <summary>What the command does without waiting; its exit code is 0.</summary>
    public static void SetHandler(this Command command, Action<ParseResult> run) =>
        command.SetHandler(parse =>
        {
            run(parse);
            return Task.FromResult(0);
        });
}
