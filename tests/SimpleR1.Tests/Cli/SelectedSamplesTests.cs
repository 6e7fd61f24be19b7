using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>Runs that choose what to learn from: dynamic sampling, a pool by difficulty, masked samples.</summary>
public sealed class SelectedSamplesTests : IDisposable
{
    private readonly string runs = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;

    public void Dispose() => Directory.Delete(runs, recursive: true);

    private string[] Train(string name) =>
        TrainRun.Command(
            runs,
            name,
            TrainRun.Set(
                "training.steps=5",
                "training.checkpoint_every=2",
                "rollout.refills=2",
                "rollout.difficulty={min_solved: 0.1, max_solved: 0.9, revisit: 0.2}",
                "rollout.max_new_tokens=24",
                "rewards.2={name: overlong, soft_limit: 12, hard_limit: 24}",
                "algorithm.mask_truncated=true",
                "algorithm.kl_coefficient=0"
            )
        );

    [Fact]
    public async Task Run_samples_more_where_groups_teach_nothing_and_continues_bit_for_bit()
    {
        var (code, output, errors) = await ProgramRun.RunAsync(Train("whole"));
        Assert.True(code == 0 && errors == "", output + errors);
        var steps = JsonLines
            .Read(Path.Combine(runs, "whole", "metrics.jsonl"))
            .Where(r => r["loss"] is not null)
            .ToArray();
        Assert.Equal(5, steps.Length);
        Assert.Contains(steps, s => (int)s["groups_sampled"]! > 4);
        Assert.All(steps, s => Assert.InRange((int)s["groups_trained"]!, 1, 4));
        Assert.All(steps, s => Assert.InRange((double)s["reward_overlong"]!, -1, 0));
        Assert.True((int)steps[^1]["problems_left_out"]! > 0);

        // Stopped after a step that wrote no checkpoint of its own
        using (var first = ProgramRun.Start(Train("parts")))
        {
            await first.SaysAsync("step 3/5");
            first.Signal(ProgramRun.Interrupt);
            Assert.Equal(130, await first.EndAsync());
        }
        (code, output, errors) = await ProgramRun.RunAsync([.. Train("parts"), "--resume"]);
        Assert.True(code == 0 && errors == "", output + errors);
        Assert.Equal(Rows("whole"), Rows("parts"));
    }

    private string[] Rows(string name) => TrainRun.Rows(Path.Combine(runs, name, "metrics.jsonl"));
}
