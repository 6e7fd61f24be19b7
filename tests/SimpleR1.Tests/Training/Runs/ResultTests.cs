using System.Text.Json.Nodes;
using SimpleR1.Screen;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;
using SimpleR1.Training.Runs.Fingerprints;
using SimpleR1.Training.Runs.Results;
using Xunit;

namespace SimpleR1.Tests.Training.Runs;

public sealed class ResultTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-results-").FullName;

    private static RunOrigin Origin { get; } =
        new()
        {
            Started = new(2026, 5, 6, 0, 0, 0, TimeSpan.Zero),
            Step = 0,
            Command = "simple-r1 train /home/someone/r.yaml --set model.path=/home/someone/models/tiny",
            Version = "1.2.3",
            Commit = "0123456789abcdef",
            Machine = new("CPU X", 16, 64_000_000_000, ["GPU Y", "GPU Y"], "Linux"),
        };

    public void Dispose() => Directory.Delete(folder, recursive: true);

    /// <summary>A run that trains a minute a step and is evaluated after each.</summary>
    private string Write(string name, int seed, string setting, params double[] accuracies)
    {
        var run = RunFolder.Open(folder, name);
        const string Recipe = """
            name: a
            model: {path: /home/someone/models/tiny}
            data: {train: {generator: arithmetic, count: 100}}
            rewards: [{name: accuracy}]
            """;
        string[] overrides = [$"name={name}", $"seed={seed}", .. setting.Length > 0 ? new[] { setting } : []];
        run.WriteRecipe(RecipeFile.Parse<TrainRecipe>(Recipe, "r.yaml", overrides), 0);
        using var metrics = new MetricsWriter(run);
        for (int step = 0; step < accuracies.Length; step++)
        {
            var elapsed = new ElapsedTime(100 + 90 * step, 60 * step);
            if (step > 0)
                metrics.Write(step, [new("reward", 1), .. elapsed.Metrics()]);
            double accuracy = accuracies[step];
            metrics.Write(
                step,
                [
                    new("evaluation_accuracy", accuracy),
                    new("evaluation_accuracy_low", accuracy - 0.02),
                    new("evaluation_accuracy_high", accuracy + 0.03),
                    .. elapsed.Metrics(),
                ]
            );
        }
        return run.Path;
    }

    private static RunComparison Read(params string[] runs) => RunComparison.Read(runs, new());

    [Fact]
    public void Seeds_of_a_recipe_are_one_group_named_by_the_keys_in_which_it_differs()
    {
        var comparison = Read(
            Write("a-2", 2, "", 0.1),
            Write("b-1", 1, "optimizer.learning_rate=1e-5", 0.1),
            Write("a-1", 1, "", 0.1)
        );
        Assert.Equal(["optimizer.learning_rate"], comparison.DifferingKeys);
        Assert.Equal(["learning_rate=1E-06", "learning_rate=1E-05"], comparison.Groups.Select(g => g.Group.Name));
        Assert.Equal(["a-1", "a-2"], comparison.Groups[0].Group.Runs.Select(r => r.Name));
    }

    [Theory]
    [InlineData("gsm8k", "gsm8k-seed=1", "gsm8k-seed=2")]
    [InlineData("gsm8k", "gsm8k-1", "gsm8k-2")]
    [InlineData("alone", "alone")]
    [InlineData("left", "left", "right")]
    public void One_recipe_is_named_by_what_its_runs_have_in_common(string expected, params string[] names)
    {
        var comparison = Read([.. names.Select((name, i) => Write(name, i + 1, "", 0.1))]);
        Assert.Equal(expected, Assert.Single(comparison.Groups).Group.Name);
    }

    [Fact]
    public void Keys_with_the_same_last_part_are_named_in_full() =>
        Assert.Equal(
            ["rollout.temperature", "evaluation.temperature", "seed", "rewards.0"],
            KeyNames.Of(["rollout.temperature", "evaluation.temperature", "seed", "rewards.0"]).Values
        );

    [Fact]
    public void Figures_are_means_over_seeds_with_students_interval_and_of_one_seed_its_own()
    {
        var several = Read(
            Write("a-1", 1, "", 0.2, 0.5, 0.4),
            Write("a-2", 2, "", 0.2, 0.3, 0.5),
            Write("a-3", 3, "", 0.2, 0.6, 0.6)
        );
        var group = Assert.Single(several.Groups);
        Assert.Equal((0.2, 0.2, 0.2), Rounded(group.First!));
        Assert.Equal((0.5, 0.252, 0.748), Rounded(group.Last!)); // 0.5 ± 4.303 × 0.1 / √3
        Assert.Equal(0.5333, group.Best!.Mean, 4);
        Assert.Equal(3, group.Best.Seeds);

        var one = Assert.Single(Read(Path.Combine(folder, "a-1")).Groups);
        Assert.Equal((0.4, 0.38, 0.43), Rounded(one.Last!));
        Assert.Equal((0.5, 0.48, 0.53), Rounded(one.Best!));
    }

    private static (double, double, double) Rounded(SeedFigure figure) =>
        (
            Math.Round(figure.Mean, 3),
            Math.Round(figure.Interval!.Value.Low, 3),
            Math.Round(figure.Interval!.Value.High, 3)
        );

    [Theory]
    [InlineData(1, 12.706)]
    [InlineData(30, 2.042)]
    [InlineData(31, 2.0395)]
    [InlineData(120, 1.9799)]
    public void Quantiles_of_students_t_are_those_of_tables(int degrees, double expected) =>
        Assert.Equal(expected, SeedFigure.Quantile(degrees), 4e-4);

    [Fact]
    public void Threshold_is_reached_by_the_first_evaluation_at_or_above_it()
    {
        string[] runs = [Write("a-1", 1, "", 0.2, 0.35, 0.3, 0.4), Write("a-2", 2, "", 0.2, 0.2, 0.2, 0.38)];
        var times = Assert.Single(Read(runs).Groups).Thresholds;
        Assert.Equal([0.3, 0.35, 0.4, 0.45, 0.5], times.Select(t => t.Threshold));
        Assert.Equal([1, 3], times[1].Reached);
        Assert.Equal("2.0 [1.0, 3.0] 2 of 2", ResultTable.Text(times[1], RunAxis.Time));
        Assert.Equal("3.0 [3.0, 3.0] 1 of 2", ResultTable.Text(times[2], RunAxis.Time));
        Assert.Equal("-", ResultTable.Text(times[3], RunAxis.Time));

        var wall = RunComparison.Read([runs[0]], new() { Axis = RunAxis.Wall, Thresholds = [0.35] });
        Assert.Equal(190 / 60.0, Assert.Single(wall.Groups[0].Thresholds[0].Reached), 9);
        var steps = RunComparison.Read(runs, new() { Axis = RunAxis.Step, Thresholds = [0.38] });
        Assert.Equal("3 [3, 3] 2 of 2", ResultTable.Text(steps.Groups[0].Thresholds[0], RunAxis.Step));
    }

    [Fact]
    public void Runs_in_progress_and_without_evaluations_have_dashes()
    {
        var run = RunFolder.Open(folder, "new");
        Assert.Contains("no recipe.yaml", Assert.Throws<FileNotFoundException>(() => Read(run.Path)).Message);
        var comparison = Read(Write("started", 1, ""));
        Assert.Equal(
            ["started", "1", "-", "-", "-", "-", "-", "-", "-", "-", "0", "-"],
            Assert.Single(ResultTable.Rows(comparison))
        );
        var written = ResultFiles.Write(comparison, Path.Combine(folder, "out"), null);
        Assert.Equal(["results.md", "results.json"], written.Select(Path.GetFileName));
    }

    [Fact]
    public void Mean_curve_has_the_steps_that_all_runs_have()
    {
        MetricPoint[] longer = [new(0, 0, 0.2), new(10, 2, 0.3), new(20, 4, 0.6)];
        MetricPoint[] shorter = [new(0, 0, 0.2), new(10, 4, 0.5)];
        Assert.Equal([new(0, 0.2, 0.2, 0.2), new(3, 0.4, 0.3, 0.5)], MeanPoint.Of([longer, shorter, []]));
    }

    [Fact]
    public void Files_hold_table_differences_origin_and_picture_but_no_folders_of_the_machine()
    {
        string[] runs = [Write("a-1", 1, "", 0.2, 0.5), Write("a-2", 2, "", 0.2, 0.4)];
        runs = [.. runs, Write("b-1", 1, "model.path=/data/private/other", 0.2, 0.3)];
        Origin.AddTo(RunFolder.Find(folder, "a-1", ExistingRun.Resume));
        string output = Path.Combine(folder, "out");
        ResultFiles.Write(Read(runs), output, $"simple-r1 results {string.Join(' ', runs)} --output /srv/docs/out");

        string page = File.ReadAllText(Path.Combine(output, "results.md"));
        Assert.Contains("| path=tiny | 1 2 | 20.0% [20.0, 20.0] | 45.0% [0.0, 100.0] |", page);
        Assert.Contains("| path=other | \"other\" |", page); // how the recipes differ
        Assert.Contains("| a-1 | path=tiny | 1 | 1 | 2026-05-06 | 1.2.3 (0123456789) |", page);
        Assert.Contains("| a-2 | path=tiny | 2 | 1 | - | - |", page);
        Assert.Contains("- 2 × GPU Y, 16 cores (CPU X), 64 GB; Linux", page);
        Assert.Contains("simple-r1 results a-1 a-2 b-1 --output out", page);
        var data = JsonNode.Parse(File.ReadAllText(Path.Combine(output, "results.json")))!;
        Assert.Equal(0.45, (double)data["groups"]![0]!["last"]!["mean"]!, 9);
        Assert.Equal(2, data["groups"]![0]!["runs"]![0]!["points"]!.AsArray().Count);
        string all = page + data.ToJsonString();
        Assert.DoesNotContain("someone", all);
        Assert.DoesNotContain("private", all);
        Assert.DoesNotContain(folder, all);
        Assert.True(new FileInfo(Path.Combine(output, "results.png")).Length > 10_000);
    }

    [Theory]
    [InlineData("/a/b/c", "c")]
    [InlineData("model.path=/a/b/c", "model.path=c")]
    [InlineData("~/runs/x ../up/y runs/z", "x y runs/z")]
    [InlineData("[\"/a/b\", '/c/d']", "[\"b\", 'd']")]
    [InlineData("https://host/path </think> and/or", "https://host/path </think> and/or")]
    public void Folders_of_the_machine_are_removed_from_texts(string text, string expected) =>
        Assert.Equal(expected, MachinePaths.Remove(text));

    [Fact]
    public void Table_leaves_thresholds_out_where_the_terminal_is_narrow()
    {
        var comparison = Read(Write("a", 1, "", 0.2, 0.41));
        string[] wide = [.. ResultReport.Lines(comparison, 200)];
        Assert.Equal(2, wide.Length);
        Assert.Contains("min to 35%", wide[0]);
        string[] narrow = [.. ResultReport.Lines(comparison, 60)];
        Assert.All(narrow, line => Assert.InRange(line.Length, 1, 60));
        Assert.DoesNotContain("to 35%", narrow[0]);
        Assert.Contains("best", narrow[0]);
    }
}
