using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes.Sections;
using SimpleR1.Training.Runs;

namespace SimpleR1.Training.Rollouts;

/// <summary>
/// The prompts of the next step: first the groups that the last step carried over, then new problems in the seed's
/// order.
/// </summary>
internal sealed class PromptQueue(
    RolloutSection options,
    RequestFactory requests,
    IReadOnlyList<Problem> problems,
    DataOrder order
)
{
    private readonly List<PromptGroup> carried = [];
    private int placesTaken; // of the step

    /// <summary>Which problems are left out; null for none.</summary>
    public DifficultyPool? Pool { get; init; }

    private int GroupsInFlight => options.PromptsPerStep + options.Carry;

    /// <summary>Positions of the carried groups in the data's order; a checkpoint stores them.</summary>
    public IReadOnlyList<long> CarriedPositions => [.. carried.Select(group => group.Position)];

    /// <summary>Takes the step's prompts. Request ids name step and place.</summary>
    public IReadOnlyList<PromptGroup> Next(int step)
    {
        var groups = carried.ToList();
        carried.Clear();
        placesTaken = 0;
        groups.AddRange(More(step, GroupsInFlight - groups.Count));
        return groups;
    }

    /// <summary>Takes more prompts for a step, after those of <see cref="Next"/>.</summary>
    public IReadOnlyList<PromptGroup> More(int step, int count)
    {
        var groups = new List<PromptGroup>();
        while (groups.Count < count)
        {
            var (position, problem) = Draw();
            groups.Add(Group(step, placesTaken++, position, problem));
        }
        return groups;
    }

    /// <summary>The next problem that the pool does not leave out; where it leaves out all of them, the next.</summary>
    private (long Position, int Problem) Draw()
    {
        for (int skipped = 0; ; skipped++)
        {
            long position = order.Position;
            int problem = order.Next();
            if (Pool is null || skipped >= problems.Count || Pool.Asks(problem, position))
                return (position, problem);
        }
    }

    /// <summary>Tells the pool how prompts were answered.</summary>
    /// <param name="rollouts">Of complete groups; <see cref="Rollout.Group"/> is the index of its prompt.</param>
    public void Measure(IReadOnlyList<PromptGroup> prompts, IReadOnlyList<Rollout> rollouts)
    {
        if (Pool is null)
            return;
        foreach (var group in rollouts.GroupBy(r => r.Group))
            Pool.Measure(order.At(prompts[group.Key].Position), group.Average(r => r.Correct ? 1.0 : 0));
    }

    /// <summary>What the metrics say of the pool.</summary>
    public IEnumerable<KeyValuePair<string, double>> Metrics =>
        Pool is null ? [] : [new("problems_left_out", Pool.LeftOut.Count)];

    /// <summary>Keeps groups that are not complete for the next step.</summary>
    public void Carry(IEnumerable<PromptGroup> unfinished) => carried.AddRange(unfinished);

    /// <summary>Continues where a checkpoint was written: the groups that were carried begin at their first token.</summary>
    public void Resume(RunState state)
    {
        Pool?.Resume(state.LeftOut);
        for (int i = 0; i < state.Carried.Count; i++)
        {
            long position = state.Carried[i];
            carried.Add(Group(state.Step, GroupsInFlight + i, position, order.At(position))); // places that Next never uses
        }
    }

    private PromptGroup Group(int step, int place, long position, int problem) =>
        new(problems[problem], requests.ForTraining(step, place, problems[problem])) { Position = position };
}
