using System.CommandLine;
using SimpleR1.Cluster;
using SimpleR1.Commands.Training;
using SimpleR1.Training;
using SimpleR1.Training.Runs;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Commands.Options;

/// <summary>The options of train.</summary>
internal sealed class TrainOptions(Command command)
{
    private readonly Option<string[]> sweep = command
        .AddOption<string[]>("--sweep")
        .Describe(
            "Train with each of some values: --sweep optimizer.learning_rate=5e-6,1e-5 (repeatable: every combination), "
                + "one run after another"
        );
    private readonly Option<bool> allowChangedData = command
        .AddOption<bool>("--allow-changed-data")
        .Describe(
            "Resume although the problems, the template or the tokenizer changed; new problems start at the first"
        );
    private readonly JoinOptions join = new(command, required: false);

    public RunOptions Run { get; } =
        new(
            command,
            "A recipe file (docs/recipes.md lists every key)",
            "optimizer.learning_rate=1e-6",
            "Replace a run of the same name, when the new one has written its first step"
        );

    /// <summary>Keys with the values of a sweep; empty where there is a single run.</summary>
    public string[] Sweep(ParseResult parse) => parse.GetValue(sweep) ?? [];

    public ExperimentOptions Experiment(ParseResult parse, ExperimentEvents events)
    {
        HeadAddress? head = join.HeadOrNull(parse);
        ClusterKey? serverKey = head is null ? join.Key.Read(parse) : null;
        return new(Run.Runs(parse), Run.Existing(parse), events, head, serverKey)
        {
            AllowChangedData = AllowsChangedData(parse),
            CommandLine = ResumeCommand.Given(parse),
        };
    }

    private bool AllowsChangedData(ParseResult parse)
    {
        bool allows = parse.GetValue(allowChangedData);
        if (allows && Run.Existing(parse) != ExistingRun.Resume)
            throw new ArgumentException("--allow-changed-data is for --resume");
        return allows;
    }
}
