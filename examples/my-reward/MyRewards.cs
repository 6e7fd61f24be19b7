/// <summary>Custom rewards, one of each form: a recipe names the file and the method.</summary>
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

    /// <summary>Sees all samples of a prompt: 1 for an answer that most of them give, 0 for the others.</summary>
    public static double[] Majority(IReadOnlyList<RewardInput> group)
    {
        string?[] answers = [.. group.Select(input => BuiltInRewards.Answer(input.Completion))];
        var most = answers.OfType<string>().CountBy(answer => answer).DefaultIfEmpty().MaxBy(count => count.Value);
        return [.. answers.Select(answer => answer is not null && answer == most.Key ? 1.0 : 0.0)];
    }

    /// <summary>Waits for a program, here the command test; several calls run at once.</summary>
    public static async ValueTask<double> Tested(RewardInput input, CancellationToken stop)
    {
        string answer = BuiltInRewards.Answer(input.Completion) ?? "none";
        using var program = System.Diagnostics.Process.Start("test", [answer, "=", input.Problem.Answer]);
        using var kill = stop.Register(() => program.Kill());
        await program.WaitForExitAsync(CancellationToken.None);
        stop.ThrowIfCancellationRequested();
        return program.ExitCode == 0 ? 1 : 0;
    }
}
