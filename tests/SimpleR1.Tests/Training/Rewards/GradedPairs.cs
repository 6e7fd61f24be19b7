namespace SimpleR1.Tests.Training.Rewards;

/// <summary>A gold answer, an answer to grade, and whether they are the same.</summary>
public sealed record GradedPair(string Kind, string Gold, string Prediction, bool Same);

/// <summary>The graded pairs of tests/data/answers/kinds.txt.</summary>
internal static class GradedPairs
{
    private static readonly GradedPair[] All = [.. Read()];

    public static IEnumerable<string> Kinds() => All.Select(p => p.Kind).Distinct();

    public static IEnumerable<GradedPair> OfKind(string kind) => All.Where(p => p.Kind == kind);

    private static IEnumerable<GradedPair> Read()
    {
        string kind = "";
        string path = Path.Combine(SharedData.RepositoryRoot, "tests", "data", "answers", "kinds.txt");
        foreach (string line in File.ReadLines(path))
        {
            if (line.StartsWith("## ", StringComparison.Ordinal))
                kind = line[3..];
            string[] fields = line.Split(" ||| ");
            if (fields.Length == 3)
                yield return new(kind, fields[0], fields[1], fields[2] == "1");
        }
    }
}
