using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Rewards;

/// <summary>A completion's pay: the weighted sum and each reward's own value, unweighted.</summary>
public sealed record Score(double Total, IReadOnlyDictionary<string, double> ByName)
{
    /// <summary>
    /// True when the answer solves the problem: full marks by every reward that judges answers; where none does, by
    /// every one that may judge them; where none may, by all.
    /// </summary>
    public bool Correct { get; init; }

    /// <summary>Rewards that did not end in time, and count as 0.</summary>
    public int TimedOut { get; init; }
}

/// <summary>A reward of a set.</summary>
/// <param name="Weight">Factor in the sum.</param>
public sealed record WeightedReward(string Name, double Weight, RewardFunction Function)
{
    /// <summary>What the reward says of whether the answer solves the problem.</summary>
    public Judgement Judgement { get; init; } = Judgement.Unknown;

    public RewardLimits Limits { get; init; } = new();

    /// <summary>How answers that the reward judges are compared with each other; null when the reward does not say.</summary>
    public AnswerVote? Vote { get; init; }
}

/// <summary>
/// Several rewards with weights. Rewards run on threads of the pool: those that may overlap several at a time, each of
/// the others one call at a time.
/// </summary>
public sealed class RewardSet
{
    private readonly IReadOnlyList<WeightedReward> rewards;
    private readonly Dictionary<string, RewardCaller> callers;
    private readonly string[] judges;

    /// <param name="log">Receives a line for each reward that is slow; the console's error stream by default.</param>
    public RewardSet(IReadOnlyList<WeightedReward> rewards, Action<string>? log = null)
    {
        if (rewards.GroupBy(r => r.Name).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new ArgumentException($"the reward '{twice.Key}' is given twice; add the weights up");
        this.rewards = rewards;
        callers = rewards.ToDictionary(r => r.Name, r => new RewardCaller(r, log ?? Console.Error.WriteLine));
        var best = rewards.Select(r => r.Judgement).DefaultIfEmpty().Min();
        judges = [.. rewards.Where(r => r.Judgement == best).Select(r => r.Name)];
    }

    /// <summary>The rewards' names, in order.</summary>
    public IEnumerable<string> Names => rewards.Select(r => r.Name);

    /// <summary>How samples vote for an answer: as the first judge that says how compares answers, else by their text.</summary>
    public AnswerVote Vote =>
        rewards.Where(r => judges.Contains(r.Name)).Select(r => r.Vote).FirstOrDefault(vote => vote is not null)
        ?? AnswerVote.ByText;

    /// <summary>True when a reward wants all completions of a prompt at once.</summary>
    public bool SeesGroups => rewards.Any(r => r.Function.SeesGroup);

    /// <summary>True when a reward that does not end in time counts as 0.</summary>
    public bool MayTimeOut => rewards.Any(r => r.Limits.OnTimeout == TimeoutAction.Zero);

    /// <summary>Finds built-in rewards and compiles custom ones, each file once.</summary>
    /// <param name="seed">The run's; a reward that draws follows from it.</param>
    /// <exception cref="RewardCompilationException">A reward file does not compile or lacks the method.</exception>
    public static RewardSet Load(IEnumerable<RewardSection> sections, ulong seed = 1, Action<string>? log = null)
    {
        var loader = new RewardLoader(seed);
        return new([.. sections.Select(loader.Load)], log);
    }

    /// <summary>
    /// The score of one completion. Rewards that see groups are missing from it until <see cref="ScoreGroupAsync"/>.
    /// </summary>
    /// <exception cref="RewardException">A reward threw, returned NaN or infinity, or did not end in time.</exception>
    public async ValueTask<Score> ScoreAsync(RewardInput input, CancellationToken stop = default)
    {
        var calls = rewards
            .Where(r => !r.Function.SeesGroup)
            .Select(r => (r.Name, Values: callers[r.Name].CallAsync([input], stop)))
            .ToArray();
        await Task.WhenAll(calls.Select(c => c.Values));

        var values = new Dictionary<string, double>(rewards.Count);
        int timedOut = 0;
        foreach (var (name, call) in calls)
        {
            var value = await call;
            values[name] = value?[0] ?? 0;
            timedOut += value is null ? 1 : 0;
        }
        return Sum(values, timedOut);
    }

    /// <summary>Adds the rewards that see groups to the scores of all completions of a prompt.</summary>
    /// <param name="inputs">In the order of the samples.</param>
    /// <param name="scores">By <see cref="ScoreAsync"/>, in the same order.</param>
    /// <inheritdoc cref="ScoreAsync" path="/exception"/>
    public async ValueTask<IReadOnlyList<Score>> ScoreGroupAsync(
        IReadOnlyList<RewardInput> inputs,
        IReadOnlyList<Score> scores,
        CancellationToken stop = default
    )
    {
        var calls = rewards
            .Where(r => r.Function.SeesGroup)
            .Select(r => (r.Name, Values: callers[r.Name].CallAsync(inputs, stop)))
            .ToArray();
        await Task.WhenAll(calls.Select(c => c.Values));

        var complete = new Score[scores.Count];
        for (int i = 0; i < complete.Length; i++)
        {
            var values = scores[i].ByName.ToDictionary();
            int timedOut = scores[i].TimedOut;
            foreach (var (name, call) in calls)
            {
                var value = await call;
                values[name] = value?[i] ?? 0;
                timedOut += value is null ? 1 : 0;
            }
            complete[i] = Sum(values, timedOut);
        }
        return complete;
    }

    /// <summary>The weighted sum of the values that are there, in the rewards' order.</summary>
    private Score Sum(Dictionary<string, double> values, int timedOut)
    {
        double total = 0;
        var inOrder = new Dictionary<string, double>(rewards.Count);
        foreach (var reward in rewards)
        {
            if (!values.TryGetValue(reward.Name, out double value))
                continue;
            inOrder[reward.Name] = value;
            total += reward.Weight * value;
        }
        bool correct = judges.Length > 0 && judges.All(name => inOrder.GetValueOrDefault(name) >= 1);
        return new(total, inOrder) { Correct = correct, TimedOut = timedOut };
    }
}
