using System.Runtime.Versioning;
using System.Text.Json;
using SimpleR1.Bench;
using SimpleR1.Bench.Training;
using SimpleR1.Tensors;
using Xunit;

namespace SimpleR1.Tests.Bench;

/// <summary>PyTorch with transformers next to the trainer: how it is started, read and ended, by stand-ins for Python.</summary>
[SupportedOSPlatform("linux")]
public sealed class TransformersPeerTests : IDisposable
{
    private const string Figures = """
        {"variant": "eager", "step_seconds": 0.5, "least_step_seconds": 0.4, "most_step_seconds": 0.75,
        "tokens_per_second": 65408.0, "peak_allocated_gib": 60.5, "peak_reserved_gib": 64.0, "micro_batch": 32,
        "asked_micro_batch": 64, "attention": "sdpa", "type": "bfloat16", "torch": "2.11.0+cu128",
        "transformers": "4.57.1"}
        """;

    private static readonly string Line = Figures.ReplaceLineEndings("");
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-bench-").FullName;

    private static BenchmarkResult Own =>
        new("train", "qwen2.5-0.5b", "NVIDIA H200", "BFloat16", new() { ["step_seconds"] = 0.2 });

    public void Dispose() => Directory.Delete(folder, recursive: true);

    /// <summary>A program in place of python3.</summary>
    private string Program(string script)
    {
        string path = Path.Combine(folder, "python3");
        File.WriteAllText(path, "#!/bin/sh\n" + script);
        File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return path;
    }

    private static TransformersPeer Peer(string python, double seconds = 60) =>
        new(
            TinyModels.Config(),
            new()
            {
                Gpu = 1,
                Type = ElementType.BF16,
                Sequences = 8,
                Samples = 1,
                Length = 32,
                Prompt = 8,
                TokensPerMicroBatch = 128,
                Checkpointing = true,
                Repeats = 3,
            }
        )
        {
            Python = python,
            Timeout = TimeSpan.FromSeconds(seconds),
        };

    [Fact]
    public void Figures_are_the_last_line_of_json()
    {
        var figures = PeerFigures.Parse($"Loading\n{{\"variant\": \"other\"}}\n{Line}\nbye\n");
        Assert.Equal("eager", figures.Variant);
        Assert.Equal(0.5, figures.StepSeconds);
        Assert.Equal(65408, figures.TokensPerSecond);
        Assert.Equal((32, 64), (figures.MicroBatch, figures.AskedMicroBatch));
        Assert.Equal("2.11.0+cu128", figures.Torch);
    }

    [Theory]
    [InlineData("", "found nothing")]
    [InlineData("Loading\n", "found Loading")]
    [InlineData("{\"variant\": \"eager\"}", "step_seconds")]
    [InlineData("{\"variant\": ", "can't be read")]
    public void Output_without_figures_is_refused_with_what_was_found(string output, string named) =>
        Assert.Contains(named, Assert.Throws<InvalidDataException>(() => PeerFigures.Parse(output)).Message);

    [Fact]
    public void Peer_stands_next_to_our_figures_with_a_ratio()
    {
        var figures = PeerFigures.Parse(Line);
        string text = figures.Describe(Own);
        Assert.Contains("transformers eager: 500.0 ms [400.0, 750.0], 65,408 tokens/s", text);
        Assert.Contains("SimpleR1 is 2.50 times as fast", text);
        Assert.Contains("32 sequences at once (64 did not fit), bfloat16, sdpa, peak 60.50 GiB", text);

        var result = figures.ToResult(Own);
        Assert.Equal("train_transformers_eager", result.Case);
        Assert.Equal(Own.Device, result.Device);
        Assert.Equal(2.5, result.Figures["simple_r1_speed_ratio"]);
        Assert.Contains("\"transformers\":\"4.57.1\"", JsonSerializer.Serialize(result));
        Assert.DoesNotContain("Software", JsonSerializer.Serialize(Own));
    }

    [Fact]
    public async Task Script_gets_the_shape_of_the_step_and_a_config_in_its_type()
    {
        string python = Program(
            $"""
            echo "$@" > {folder}/arguments
            cp "$2/config.json" {folder}
            test -s "$1" && echo '{Line}'
            """
        );
        Assert.Equal("eager", (await Peer(python).MeasureAsync("eager")).Variant);

        string arguments = File.ReadAllText(Path.Combine(folder, "arguments"));
        Assert.Contains(
            "--variant eager --sequences 8 --length 32 --prompt 8 --micro-batch 4 --warm-up 2 --repeats 3 "
                + "--device cuda:1 --checkpointing",
            arguments
        );
        using var config = JsonDocument.Parse(File.ReadAllText(Path.Combine(folder, "config.json")));
        Assert.Equal("bfloat16", config.RootElement.GetProperty("torch_dtype").GetString());
        Assert.Equal(24, config.RootElement.GetProperty("hidden_size").GetInt32());
        Assert.False(Directory.Exists(arguments.Split(' ')[1]), "the script's folder is still there");
    }

    [Fact]
    public async Task Without_python_the_error_says_what_to_install()
    {
        string missing = Path.Combine(folder, "python3");
        string message = (await Assert.ThrowsAsync<IOException>(() => Peer(missing).MeasureAsync("eager"))).Message;
        Assert.Contains($"can't start {missing}", message);
        Assert.Contains("pip install torch transformers", message);
        Assert.Contains("--python", message);
    }

    [Fact]
    public async Task Python_without_pytorch_says_what_to_install()
    {
        const string Real = "/usr/bin/python3";
        Assert.SkipUnless(File.Exists(Real), $"{Real} is not there");
        string python = Program($"exec {Real} -I -S \"$@\""); // without packages
        string message = (await Assert.ThrowsAsync<IOException>(() => Peer(python).MeasureAsync("eager"))).Message;
        Assert.Contains("ended with exit code 1", message);
        Assert.Contains("cannot import torch: No module named 'torch'", message);
        Assert.Contains("-m pip install torch transformers", message);
        Assert.DoesNotContain("Traceback", message);
    }

    [Fact]
    public async Task Errors_of_python_end_with_their_reason()
    {
        string python = Program(
            """
            for i in $(seq 100); do echo "line $i" >&2; done
            echo 'RuntimeError: CUDA error' >&2
            exit 3
            """
        );
        string message = (await Assert.ThrowsAsync<IOException>(() => Peer(python).MeasureAsync("compile"))).Message;
        Assert.Contains("ended with exit code 3", message);
        Assert.EndsWith("line 100\nRuntimeError: CUDA error", message);
        Assert.DoesNotContain("line 20\n", message);
    }

    [Fact]
    public async Task Peer_that_takes_too_long_is_ended_with_its_children()
    {
        string python = Program(
            $"""
            sleep 600 &
            echo $! > {folder}/child
            wait
            """
        );
        var peer = Peer(python, seconds: 1);
        string message = (await Assert.ThrowsAsync<TimeoutException>(() => peer.MeasureAsync("compile"))).Message;
        Assert.Contains("compile has no figures after 1 s (--peer-timeout)", message);

        int child = int.Parse(File.ReadAllText(Path.Combine(folder, "child")));
        using var deadline = new CancellationTokenSource(TimeSpan.FromSeconds(20));
        while (IsRunning(child))
            await Task.Delay(10, deadline.Token);
    }

    private static bool IsRunning(int process) =>
        File.Exists($"/proc/{process}/stat")
        && !File.ReadAllText($"/proc/{process}/stat").Contains(") Z ", StringComparison.Ordinal);
}
