using SimpleR1.Training.Runs;
using Xunit;

namespace SimpleR1.Tests.Training;

/// <summary>A run that is replaced is deleted when its successor has written a step, and never before.</summary>
public sealed class RunSessionTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-runs-").FullName;
    private readonly List<string> log = [];

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private RunSession Open(ExistingRun existing) => RunSession.Open(folder, "a", existing, log.Add);

    /// <summary>A run with a step, and a file by which it can be known again.</summary>
    private RunFolder Written(string mark)
    {
        using var session = Open(ExistingRun.Overwrite);
        WriteStep(session);
        File.WriteAllText(Path.Combine(session.Run.Checkpoints, mark), "");
        return session.Run;
    }

    private static void WriteStep(RunSession session)
    {
        File.WriteAllText(session.Run.Recipe, "name: a\n");
        File.WriteAllText(session.Run.Metrics, "{\"step\": 0}\n{\"step\": 1}\n");
        session.StepWritten();
    }

    private static bool Holds(RunFolder run, string mark) => File.Exists(Path.Combine(run.Checkpoints, mark));

    [Fact]
    public void Run_that_fails_before_its_first_step_gives_way_to_the_one_it_was_to_replace()
    {
        var run = Written("old");
        using (var session = Open(ExistingRun.Overwrite))
        {
            Assert.False(Holds(run, "old"));
            Assert.True(File.Exists(Path.Combine(run.Former, "checkpoints", "old")));
            File.WriteAllText(run.Recipe, "name: a\n");
            File.WriteAllText(run.Metrics, "{\"step\": 0}\n"); // an evaluation before the first step
        }
        Assert.True(Holds(run, "old"));
        Assert.False(run.HasFormer);
        Assert.Contains(log, line => line.Contains("holds the run that was there before"));
        Assert.False(File.Exists(run.Path + ".lock"));
    }

    [Fact]
    public void Run_is_deleted_with_the_first_step_of_its_successor()
    {
        var run = Written("old");
        using (var session = Open(ExistingRun.Overwrite))
        {
            Assert.True(run.HasFormer);
            WriteStep(session);
            Assert.False(run.HasFormer);
        }
        Assert.False(Holds(run, "old"));
        Assert.True(run.HasSteps);
    }

    [Fact]
    public void Interrupted_run_without_a_step_keeps_the_former_one_until_it_is_resumed_and_has_a_step()
    {
        var run = Written("old");
        using (var session = Open(ExistingRun.Overwrite))
        {
            File.WriteAllText(run.Recipe, "name: a\n");
            session.Keep();
        }
        Assert.True(run.HasFormer);
        Assert.Contains(log, line => line.Contains(run.Former));

        using (var session = Open(ExistingRun.Resume))
        {
            Assert.True(run.HasFormer);
            WriteStep(session);
        }
        Assert.False(run.HasFormer);
    }

    [Fact]
    public void Start_that_was_killed_before_a_step_loses_nothing_however_often_it_is_tried()
    {
        var run = Written("old");
        var killed = RunFolder.Open(folder, "a", ExistingRun.Overwrite); // and nothing more
        Assert.Contains("mv ", Assert.Throws<IOException>(() => Open(ExistingRun.Resume)).Message);
        Assert.Contains(run.Former, Assert.Throws<IOException>(() => Open(ExistingRun.Refuse)).Message);
        File.WriteAllText(killed.Recipe, "name: a\n");
        using (Open(ExistingRun.Overwrite))
            Assert.True(File.Exists(Path.Combine(run.Former, "checkpoints", "old")));
        Assert.True(Holds(run, "old"));
    }

    [Fact]
    public void Leftovers_of_a_start_that_failed_can_be_resumed_as_a_new_run()
    {
        Directory.CreateDirectory(Path.Combine(folder, "a", "logs"));
        using var session = Open(ExistingRun.Resume);
        Assert.False(session.Run.HasSteps);
    }
}
