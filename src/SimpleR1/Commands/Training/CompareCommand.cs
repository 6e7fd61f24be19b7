using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Training.Runs.Evaluations;

namespace SimpleR1.Commands.Training;

internal static class CompareCommand
{
    public static Command Create()
    {
        var command = new Command("compare", "Compare two kept evaluations of the same problems, problem by problem");
        var before = command
            .AddArgument("A")
            .Describe("An --output folder of eval, or a run's evaluations/step-NNNNNN.jsonl");
        var after = command.AddArgument("B").Describe("Another one");
        var shown = command
            .AddDefault("--show", 0)
            .Describe("Problems to show of those that one of the two solves more often");
        command.SetHandler(parse =>
        {
            var comparison = new EvaluationComparison(
                ComparedEvaluation.Read(parse.GetValue(before)!),
                ComparedEvaluation.Read(parse.GetValue(after)!)
            );
            foreach (string line in comparison.Lines(parse.GetValue(shown)))
                Console.WriteLine(line);
        });
        return command;
    }
}
