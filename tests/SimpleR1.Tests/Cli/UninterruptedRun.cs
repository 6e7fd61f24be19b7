using System.Text.Json.Nodes;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>A run of ten steps that nothing disturbs, which other runs are compared with.</summary>
public sealed class UninterruptedRun : IAsyncLifetime
{
    public string Runs { get; } = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;
    public string Folder => Path.Combine(Runs, "a");
    public string Output { get; private set; } = "";

    public async ValueTask InitializeAsync()
    {
        (int code, Output, string errors) = await ProgramRun.RunAsync(TrainRun.Command(Runs, "a"));
        Assert.True(code == 0 && errors == "", Output + errors);
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(Runs, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>Copies the run into another runs folder.</summary>
    public void Copy(string to)
    {
        foreach (string file in Directory.GetFiles(Folder, "*", SearchOption.AllDirectories))
        {
            string copy = Path.Combine(to, Path.GetRelativePath(Runs, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }
    }

    /// <summary>
    /// Asserts that a run computed the same figures, samples, weights, moments and position, bit for bit.
    /// </summary>
    public void AssertSame(string run)
    {
        foreach (string file in new[] { "metrics.jsonl", "samples.jsonl" })
            Assert.Equal(TrainRun.Rows(Path.Combine(Folder, file)), TrainRun.Rows(Path.Combine(run, file)));
        foreach (string file in new[] { "model.safetensors", "optimizer.safetensors" })
            Assert.Equal(ReadCheckpoint(Folder, file), ReadCheckpoint(run, file));
        Assert.Equal(State(Folder), State(run));
    }

    /// <summary>A checkpoint's state, without how many workers the run had.</summary>
    private static string State(string run)
    {
        var state = JsonNode.Parse(ReadCheckpoint(run, "state.json"))!;
        Assert.True(state["Fingerprint"]!.AsObject().Remove("workers.count"));
        return state.ToJsonString();
    }

    private static byte[] ReadCheckpoint(string run, string file) =>
        File.ReadAllBytes(Path.Combine(run, "checkpoints", "step-000010", file));
}

/// <summary>The tests that share <see cref="UninterruptedRun"/>.</summary>
[CollectionDefinition]
public sealed class TrainRuns : ICollectionFixture<UninterruptedRun>;
