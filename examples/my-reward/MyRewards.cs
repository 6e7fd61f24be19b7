/// <summary>Custom rewards. A recipe names the file and a <c>public static double Name(RewardInput input)</c>.</summary>
public static class MyRewards
{
    private const int Free = 40; // characters of thought that cost nothing

    /// <summary>A right answer is worth 1, less 1% for each character of thought beyond 40, and at least 0.2.</summary>
    public static double Brief(RewardInput input)
    {
        if (BuiltInRewards.Accuracy(input) == 0)
            return 0;
        int thought = input.Completion.IndexOf("</think>", StringComparison.Ordinal);
        return Math.Clamp(1 - 0.01 * (thought - Free), 0.2, 1);
    }
}
