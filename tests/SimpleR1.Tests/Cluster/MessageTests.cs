using SimpleR1.Cluster.Wire;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Cluster;

public sealed class MessageTests
{
    [Fact]
    public void Request_survives_the_wire_with_every_sampling_parameter()
    {
        var request = new GenerationRequest(
            "q\"1",
            [5, 0, 151_643],
            new()
            {
                Samples = 3,
                Temperature = 0.1 + 0.2,
                TopK = 7,
                TopP = 0.9,
                MinP = 1e-300,
                RepetitionPenalty = 1.1,
                PresencePenalty = -0.5,
                FrequencyPenalty = 0.25,
                Seed = ulong.MaxValue,
                MinTokens = 2,
                MaxTokens = 99,
                StopTokenIds = [4, 2],
                StopStrings = ["</answer>", "終\n"],
                IncludeStopString = true,
                IgnoreEos = true,
                LogitBias = new Dictionary<int, float> { [3] = float.NegativeInfinity, [9] = 0.1f },
                BadWords =
                [
                    [1, 2],
                    [3],
                ],
                TopLogProbs = 4,
            }
        )
        {
            Priority = -2,
        };
        var back = RequestMessage.From(request).ToRequest();
        Assert.Equivalent(request, back, strict: true);
        Assert.Equal(0.1 + 0.2, back.Sampling.Temperature); // to the last bit
    }

    [Fact]
    public void Completion_survives_the_wire_bit_for_bit()
    {
        var completion = new Completion
        {
            RequestId = "r",
            SampleIndex = 2,
            Tokens = [1, int.MaxValue],
            LogProbs = [-0.1f, float.NegativeInfinity],
            WeightVersions = [3, 4],
            FinishReason = FinishReason.Length,
            Text = "x🙂",
            TopLogProbs =
            [
                [new(1, -0.5f), new(2, -1f)],
                [],
            ],
            CachedPromptTokens = 16,
        };
        Assert.Equivalent(completion, CompletionMessage.From(completion).ToCompletion(), strict: true);
    }

    [Fact]
    public void Worker_options_survive_the_command_line_and_bad_ones_are_named()
    {
        var options = new WorkerOptions
        {
            Join = "head.example:4711",
            Name = "worker 1",
            Instance = "x",
            Worker = new()
            {
                Device = "cpu",
                Threads = 3,
                SiloPort = 7,
                DrainTimeout = TimeSpan.FromSeconds(9),
            },
            Parent = 12,
        };
        string[] arguments = options.ToArguments();
        Assert.Equal(options, WorkerOptions.Parse(arguments));
        Assert.Contains(
            "--name",
            Assert
                .Throws<ArgumentException>(() =>
                    WorkerOptions.Parse([.. arguments.Where((_, i) => i / 2 != Array.IndexOf(arguments, "--name") / 2)])
                )
                .Message
        );
        Assert.Contains(
            "--colour",
            Assert.Throws<ArgumentException>(() => WorkerOptions.Parse([.. arguments, "--colour", "red"])).Message
        );
        Assert.Contains(
            "nowhere",
            Assert
                .Throws<ArgumentException>(() =>
                    WorkerOptions.Parse([.. arguments.Select(a => a == options.Join ? "nowhere" : a)])
                )
                .Message
        );
    }

    [Fact]
    public async Task Program_that_a_person_starts_is_no_worker_process()
    {
        Assert.Null(await WorkerProcess.RunIfAskedAsync([]));
        Assert.Null(await WorkerProcess.RunIfAskedAsync(["recipe.yaml", "worker"]));
        Assert.Null(await WorkerProcess.RunIfAskedAsync(["worker", "--join", "head:7400"])); // simple-r1 worker
    }
}
