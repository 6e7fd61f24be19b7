using SimpleR1.Training.Runs;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

public sealed class ElapsedTimeTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-time-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private static void Pass(StepClock clock, double seconds)
    {
        double end = clock.Seconds + seconds;
        Assert.True(SpinWait.SpinUntil(() => clock.Seconds >= end, TimeSpan.FromSeconds(10)));
    }

    [Fact]
    public void Training_is_the_steps_and_what_is_between_them_but_no_start_and_no_evaluation()
    {
        var clock = new StepClock();
        Pass(clock, 0.02); // the start
        using (clock.PauseTraining())
            Pass(clock, 0.02); // the evaluation before the first step
        Assert.Equal(0, clock.Elapsed.TrainingSeconds);

        clock.BeginStep(0);
        Pass(clock, 0.03);
        double step = clock.EndStep(1, 2).Seconds;
        Pass(clock, 0.02); // a checkpoint
        double trained;
        using (clock.PauseTraining())
        {
            trained = clock.Elapsed.TrainingSeconds;
            Pass(clock, 0.02);
            Assert.Equal(trained, clock.Elapsed.TrainingSeconds);
        }
        Assert.InRange(trained, step + 0.02, clock.Seconds - 0.06);

        clock.BeginStep(1);
        Pass(clock, 0.02);
        Assert.InRange(clock.Elapsed.TrainingSeconds, trained + 0.02, clock.Seconds - 0.06);
        Assert.Equal(clock.Seconds, clock.Elapsed.Seconds, 0.01);
    }

    [Fact]
    public void Resumed_run_continues_from_the_last_row_that_is_kept()
    {
        var run = RunFolder.Open(folder, "a");
        using (var metrics = new MetricsWriter(run))
            for (int step = 1; step <= 5; step++)
                metrics.Write(step, new ElapsedTime(100 + 10 * step, 8 * step).Metrics());

        using (new MetricsWriter(run, resumedStep: 3))
        {
            var clock = new StepClock();
            clock.Continue(ElapsedTime.Last(run.Metrics));
            Assert.InRange(clock.Elapsed.Seconds, 130, 139);
            Assert.Equal(24, clock.Elapsed.TrainingSeconds);
            clock.BeginStep(3);
            Pass(clock, 0.01);
            Assert.InRange(clock.Elapsed.TrainingSeconds, 24.01, 33);
        }
    }

    [Fact]
    public void Run_of_an_older_program_has_no_known_time_after_it_is_resumed()
    {
        var run = RunFolder.Open(folder, "old");
        using (var metrics = new MetricsWriter(run))
        {
            Assert.Equal(ElapsedTime.None, ElapsedTime.Last(run.Metrics));
            metrics.Write(1, [new("reward", 1)]);
        }
        var clock = new StepClock();
        clock.Continue(ElapsedTime.Last(run.Metrics));
        using (var metrics = new MetricsWriter(run, resumedStep: 1))
            metrics.Write(2, clock.Elapsed.Metrics());
        Assert.Equal(double.NaN, ElapsedTime.Last(run.Metrics).TrainingSeconds); // not a time that is too short
    }
}
