// A reward of one's own: how many calculations an answer writes down. gsm8k-cpu-check uses it so that samples cut after 96 tokens still differ.

public static class Gsm8kSteps
{
    /// <summary>A quarter for each '=', at most 1.</summary>
    public static double WrittenSteps(RewardInput input) => Math.Min(1, input.Completion.Count(c => c == '=') / 4.0);
}
