using System.Text.Json;
using System.Text.Json.Nodes;
using SimpleR1.Inference;
using SimpleR1.Training.Rollouts;
using Xunit;

namespace SimpleR1.Tests.Training.Rollouts;

public sealed class RolloutTests
{
    private static Rollout Sample(params Segment[] segments) =>
        new()
        {
            Group = 3,
            Sample = 1,
            Question = "1+2",
            Gold = "3",
            Text = "<think>ü",
            Reward = 0.7,
            Rewards = new Dictionary<string, double> { ["accuracy"] = 0.5 },
            Correct = true,
            FinishReason = FinishReason.Length,
            Segments = segments,
        };

    /// <summary>The line is as versions before segments wrote it; evaluations of old runs must stay readable.</summary>
    [Fact]
    public void Single_turn_is_written_and_read_as_ever()
    {
        const string line =
            """{"group":3,"sample":1,"question":"1+2","gold":"3","text":"<think>ü","reward":0.7,"rewards":{"accuracy":0.5}"""
            + ""","finish_reason":"length","prompt_tokens":[5,6],"tokens":[7,8,9],"log_probs":[-0.1,-0.2,-0.3]"""
            + ""","weight_versions":[4,4,5],"correct":true,"total_tokens":5}""";
        var rollout = Sample(Segment.Read([5, 6]), new([7, 8, 9], [-0.1f, -0.2f, -0.3f], [4, 4, 5]));
        Assert.Equal(line, rollout.ToJson());

        var read = Rollout.FromJson(line);
        Assert.Equal(line, read.ToJson());
        Assert.Equal([5, 6], read.PromptTokens);
        Assert.Equal([-0.1f, -0.2f, -0.3f], read.LogProbs);
        Assert.True(read.Correct);
        Assert.Throws<JsonException>(() => Rollout.FromJson("null"));
        Assert.Throws<JsonException>(() => Rollout.FromJson("""{"group":3}"""));
    }

    [Fact]
    public void Conversation_keeps_its_segments()
    {
        var rollout = Sample(
            Segment.Read([1, 2]),
            new([3], [-1], [0]),
            Segment.Read([4, 5, 6]),
            new([7, 8], [-2, -3], [1, 1])
        );
        Assert.Equal([3, 7, 8], rollout.Tokens);
        Assert.Equal([-1f, -2, -3], rollout.LogProbs);
        Assert.Equal([0, 1, 1], rollout.WeightVersions);
        Assert.Equal(8, rollout.TotalTokens);

        var read = Rollout.FromJson(rollout.ToJson());
        Assert.Equal(rollout.ToJson(), read.ToJson());
        Assert.Equal([false, true, false, true], read.Segments.Select(s => s.IsSampled));
        Assert.Equal([4, 5, 6], read.Segments[2].Tokens);
        Assert.Null(JsonNode.Parse(rollout.ToJson())!["segments"]![2]!["log_probs"]);
    }
}
