using System.CommandLine;
using SimpleR1.Training.Runs.Results;

namespace SimpleR1.Commands.Options;

/// <summary>What figures of runs are shown over.</summary>
internal sealed class AxisOption
{
    private readonly Option<string> axis;

    /// <param name="otherwise">The axis where none is given.</param>
    public AxisOption(Command command, string otherwise)
    {
        axis = command
            .AddDefault("--by", otherwise)
            .Describe("step, time (minutes of training, without evaluations) or wall (minutes, everything included)");
        axis.AcceptOnlyFromAmong([.. RunAxis.All.Select(a => a.Name)]);
    }

    public RunAxis Read(ParseResult parse) => RunAxis.Parse(parse.GetValue(axis)!);
}
