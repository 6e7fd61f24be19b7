using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes.Sections;

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

    private int GroupsInFlight => options.PromptsPerStep + options.Carry;

    /// <summary>Positions of the carried groups in the data's order; a checkpoint stores them.</summary>
    public IReadOnlyList<long> CarriedPositions => [.. carried.Select(group => group.Position)];

    /// <summary>Takes the step's prompts. Request ids name step and place.</summary>
    public IReadOnlyList<PromptGroup> Next(int step)
    {
        var groups = carried.ToList();
        carried.Clear();
        for (int place = 0; groups.Count < GroupsInFlight; place++)
        {
            long position = order.Position;
            groups.Add(Group(step, place, position, order.Next()));
        }
        return groups;
    }

    /// <summary>Keeps groups that are not complete for the next step.</summary>
    public void Carry(IEnumerable<PromptGroup> unfinished) => carried.AddRange(unfinished);

    /// <summary>Takes up the groups that a checkpoint says were carried, from their first token.</summary>
    public void Resume(int step, IReadOnlyList<long> positions)
    {
        for (int i = 0; i < positions.Count; i++)
            carried.Add(Group(step, GroupsInFlight + i, positions[i], order.At(positions[i]))); // places that Next never uses
    }

    private PromptGroup Group(int step, int place, long position, int problem) =>
        new(problems[problem], requests.ForTraining(step, place, problems[problem])) { Position = position };
}
