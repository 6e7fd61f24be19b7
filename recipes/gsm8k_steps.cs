// A custom reward: how many calculations an answer writes down. With it samples that end after 96 tokens still differ,
// which recipes/gsm8k-cpu-check.yaml needs.

public static class Gsm8kSteps
{
    /// <summary>A quarter for each '=', at most 1.</summary>
    public static double WrittenSteps(RewardInput input) => Math.Min(1, input.Completion.Count(c => c == '=') / 4.0);
}
