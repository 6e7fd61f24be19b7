using System.Text.Json.Nodes;
using SimpleR1.Training.Data;
using SimpleR1.Training.Rewards;
using Xunit;

namespace SimpleR1.Tests.Training.Rewards;

public sealed class RewardFileTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-rewards-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    private static RewardInput Input(string completion) =>
        new(new Problem("What is 6 * 7?", "42", new Dictionary<string, JsonNode?>()), completion, false);

    [Fact]
    public async Task RewardFile_compiles_a_users_own_reward()
    {
        string path = Write(
            "brief.cs",
            """
            public static class MyRewards
            {
                // prefers short completions; the usual namespaces and SimpleR1's are there without a using
                public static double Brevity(RewardInput input) => Math.Max(0, 1 - input.Completion.Split(' ').Count() / 10.0);
                public static double Half(RewardInput input) => BuiltInRewards.Format(input) / 2;
                static double Hidden(RewardInput input) => 1;
            }
            """
        );
        var set = RewardSet.Load([
            new() { Name = "Brevity", File = path },
            new()
            {
                Name = "Half",
                File = path,
                Weight = 2,
            },
        ]);
        var score = await set.ScoreAsync(Input("<think>a</think> <answer>b</answer>"), Stop);
        Assert.Equal((0.8, 0.5, 1.8), (score.ByName["Brevity"], score.ByName["Half"], score.Total));
        Assert.Contains(
            "no reward 'Hidden'; found Brevity, Half",
            Assert
                .Throws<RewardCompilationException>(() => RewardSet.Load([new() { Name = "Hidden", File = path }]))
                .Message
        );
    }

    [Fact]
    public void RewardFile_with_errors_shows_each_with_its_line()
    {
        string path = Write(
            "wrong.cs",
            """
            public static class R
            {
                public static double A(RewardInput i) => i.Nothing;
                public static double B(RewardInput i) => "text";
            }
            """
        );
        string message = Assert.Throws<RewardCompilationException>(() => RewardFile.Compile(path)).Message;
        Assert.Contains($"{path}:3: CS1061", message);
        Assert.Contains($"{path}:4: CS0029", message);
        Assert.Contains("none.cs", Assert.Throws<FileNotFoundException>(() => RewardFile.Compile("none.cs")).Message);
    }

    [Fact]
    public async Task RewardFile_takes_each_form_of_reward_by_its_signature()
    {
        string path = Write(
            "forms.cs",
            """
            public static class R
            {
                public static double Plain(RewardInput input) => 1;

                public static async ValueTask<double> Waits(RewardInput input, CancellationToken stop)
                {
                    await Task.Delay(1, stop);
                    return 2;
                }

                public static double[] Longest(IReadOnlyList<RewardInput> group) =>
                    [.. group.Select(i => i.Completion.Length == group.Max(o => o.Completion.Length) ? 1.0 : 0)];

                public static async ValueTask<IReadOnlyList<double>> Ranks(IReadOnlyList<RewardInput> group, CancellationToken stop)
                {
                    await Task.Yield();
                    return [.. group.Select((_, i) => (double)i)];
                }

                public static double Other(string text) => 0;
            }
            """
        );
        string[] names = ["Plain", "Waits", "Longest", "Ranks"];
        Assert.Equal(names, RewardFile.Compile(path).Names);
        var set = RewardSet.Load(
            names.Select(name => new SimpleR1.Training.Recipes.Sections.RewardSection { Name = name, File = path })
        );
        RewardInput[] inputs = [Input("long one"), Input("short")];
        var first = await set.ScoreAsync(inputs[0], Stop);
        var second = await set.ScoreAsync(inputs[1], Stop);
        Assert.Equal(["Plain", "Waits"], first.ByName.Keys);

        var scores = await set.ScoreGroupAsync(inputs, [first, second], Stop);

        Assert.Equal(names, scores[0].ByName.Keys);
        Assert.Equal([1.0, 2, 1, 0], scores[0].ByName.Values);
        Assert.Equal([1.0, 2, 0, 1], scores[1].ByName.Values);
        Assert.Equal(4, scores[0].Total);
        Assert.Contains(
            "ValueTask<double> Other(RewardInput input, CancellationToken stop)",
            Assert.Throws<RewardCompilationException>(() => RewardFile.Compile(path).ByName("Other")).Message
        );
    }

    [Fact]
    public async Task RewardFile_reward_that_waits_and_throws_is_named_with_its_line()
    {
        string path = Write(
            "throws.cs",
            """
            public static class R
            {
                public static async ValueTask<double> Late(RewardInput input, CancellationToken stop)
                {
                    await Task.Yield();
                    throw new FormatException("too late");
                }
            }
            """
        );
        var set = RewardSet.Load([new() { Name = "Late", File = path }]);
        var error = await Assert.ThrowsAsync<RewardException>(async () => await set.ScoreAsync(Input("a"), Stop));
        Assert.Contains($"the reward 'Late' threw FormatException: too late ({path}:6)", error.Message);
    }

    private string Write(string name, string text)
    {
        string path = Path.Combine(folder, name);
        File.WriteAllText(path, text);
        return path;
    }
}
