using System.Diagnostics;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Rewards;

/// <summary>A completion's pay: the weighted sum and each reward's own value, unweighted.</summary>
public sealed record Score(double Total, IReadOnlyDictionary<string, double> ByName);

/// <summary>A reward threw or returned no number: a bug in the reward, which stops the run rather than training on it.</summary>
public sealed class RewardException(string message, Exception? inner) : Exception(message, inner);

/// <summary>Several rewards with weights. Safe to call from several threads as long as the user's own rewards are.</summary>
public sealed class RewardSet
{
    private readonly IReadOnlyList<(string Name, double Weight, Reward Reward)> rewards;

    public RewardSet(IReadOnlyList<(string Name, double Weight, Reward Reward)> rewards)
    {
        if (rewards.GroupBy(r => r.Name).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new ArgumentException($"the reward '{twice.Key}' is given twice; add the weights up");
        this.rewards = rewards;
    }

    /// <summary>The rewards' names, in order.</summary>
    public IEnumerable<string> Names => rewards.Select(r => r.Name);

    /// <summary>Finds built-in rewards and compiles the user's own, each file once.</summary>
    /// <exception cref="RewardCompilationException">A reward file does not compile or lacks the method.</exception>
    public static RewardSet Load(IEnumerable<RewardSection> sections)
    {
        var files = new Dictionary<string, RewardFile>();
        return new([.. sections.Select(section => (section.Name, section.Weight, Find(section)))]);

        Reward Find(RewardSection section)
        {
            if (section.File is not { } path)
                return section is { Name: "accuracy", AcceptLastNumber: true }
                    ? input => BuiltInRewards.Accuracy(input, true)
                    : BuiltInRewards.ByName(section.Name);
            string full = Path.GetFullPath(path);
            if (!files.TryGetValue(full, out var file))
                files[full] = file = RewardFile.Compile(path);
            return file.ByName(section.Name);
        }
    }

    /// <exception cref="RewardException">A reward threw, or returned NaN or infinity; names the reward, the problem and the completion.</exception>
    public Score Score(RewardInput input)
    {
        double total = 0;
        var values = new Dictionary<string, double>(rewards.Count);
        foreach (var (name, weight, reward) in rewards)
        {
            double value;
            try
            {
                value = reward(input);
            }
            catch (Exception e)
            {
                throw new RewardException(
                    $"the reward '{name}' threw {e.GetType().Name}: {e.Message}{Line(e)}\n{Where(input)}",
                    e
                );
            }
            if (!double.IsFinite(value))
                throw new RewardException(
                    $"the reward '{name}' returned {value}; it must return a finite number\n{Where(input)}",
                    null
                );
            values[name] = value;
            total += weight * value;
        }
        return new(total, values);
    }

    private static string Line(Exception e) =>
        new StackTrace(e, fNeedFileInfo: true).GetFrames().FirstOrDefault(f => f.GetFileName() is not null) is { } frame
            ? $" ({frame.GetFileName()}:{frame.GetFileLineNumber()})"
            : "";

    private static string Where(RewardInput input) =>
        $"  problem: {Excerpt(input.Problem.Question)}\n  gold answer: {Excerpt(input.Problem.Answer)}\n  completion: {Excerpt(input.Completion)}";

    private static string Excerpt(string text) => text.Length <= 300 ? text : $"{text[..150]} … {text[^150..]}";
}
