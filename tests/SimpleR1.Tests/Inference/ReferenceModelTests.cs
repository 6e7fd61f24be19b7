using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Policy;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Inference;

/// <summary>
/// The engine's paged path and the training path against reference logits and greedy text, and against each other.
/// </summary>
public sealed class ReferenceModelTests
{
    [Theory]
    [InlineData("llama")]
    [InlineData("llama3_rope")]
    [InlineData("qwen2")]
    [InlineData("qwen3")]
    public void Random_models_of_each_family_give_the_100_reference_tokens(string family)
    {
        string folder = Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tiny-random", family);
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "reference_fp64.json")));
        int[] prompt = Ints(document.RootElement.GetProperty("sequences")[2].GetProperty("ids"))[..20];
        int[] expected =
        [
            .. document
                .RootElement.GetProperty("greedy_from_first_20_of_sequence_2")
                .EnumerateArray()
                .Select(e => e[0].GetInt32()),
        ];
        using var weights = Checkpoint.Load(folder);
        var completion = Complete(
            weights,
            null,
            prompt,
            new()
            {
                MaxTokens = expected.Length,
                Temperature = 0,
                IgnoreEos = true,
            }
        );
        Assert.Equal(expected, completion.Tokens);
        AssertTrainerAgrees(weights, prompt, completion, 1e-5);
    }

    [Fact]
    public void TinyStories_gives_the_reference_logits_and_text_on_both_paths()
    {
        string folder = SharedData.Require("models/TinyStories-656K");
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "reference_logits_fp64.json")));
        using var weights = Checkpoint.Load(folder);
        var tokenizer = Tokenizer.Load(folder);
        using var decoder = new Decoder(weights);
        foreach (var item in document.RootElement.EnumerateArray())
        {
            int[] prompt = Ints(item.GetProperty("prompt_ids"));
            int[] greedy = Ints(item.GetProperty("greedy_ids"));
            Assert.Equal(121, greedy.Length);
            var sampling = new SamplingParameters
            {
                MaxTokens = greedy.Length,
                Temperature = 0,
                IgnoreEos = true,
                TopLogProbs = 5,
            };
            var completion = Complete(weights, tokenizer, prompt, sampling);
            Assert.Equal(greedy, completion.Tokens);

            // The text continues the prompt's: its first space stays, which the reference's text of its own has lost.
            string whole = tokenizer.Decode([.. prompt, .. greedy]);
            Assert.Equal(whole[tokenizer.Decode(prompt).Length..], completion.Text);
            Assert.EndsWith(item.GetProperty("text").GetString()!, completion.Text);
            AssertTrainerAgrees(weights, prompt, completion, 1e-5);
            AssertTop(item, completion);
            AssertTrainingPath(item, decoder, prompt, greedy);
        }
    }

    /// <summary>top5: per position [id, logit, log-prob].</summary>
    private static void AssertTop(JsonElement item, Completion completion)
    {
        var top = item.GetProperty("top5").EnumerateArray().ToArray();
        for (int i = 0; i < top.Length; i++)
        for (int j = 0; j < 5; j++)
        {
            var found = completion.TopLogProbs![i].Single(t => t.Token == top[i][j][0].GetInt32());
            Assert.Equal(top[i][j][2].GetDouble(), found.LogProb, 2e-4);
        }
    }

    private static void AssertTrainingPath(JsonElement item, Decoder decoder, int[] prompt, int[] greedy)
    {
        using var scope = NewDisposeScope();
        using var batch = new PackedBatch([new([.. prompt, .. greedy], 1)]);
        if (item.TryGetProperty("first_step_all_logits", out var firstLogits)) // after the first token
        {
            var attention = new PackedAttention(decoder.Config, batch.Segments);
            var hidden = decoder.Hidden(batch.Ids, batch.Positions, attention);
            float[] logits = decoder.Logits(hidden).data<float>().ToArray()[..decoder.Config.VocabularySize];
            AssertNear(firstLogits, logits, 2e-4);
        }

        float[] logProbs = batch.LogProbs(decoder, 1, HeadMemory.Cpu).LogProbs.data<float>().ToArray();
        AssertNear(item.GetProperty("prompt_logprobs"), logProbs[..(prompt.Length - 1)], 2e-4);
        Assert.Equal(greedy, GreedyByTrainingPath(decoder, prompt, greedy.Length));
    }

    private static void AssertNear(JsonElement expected, float[] found, double tolerance)
    {
        var pairs = expected.EnumerateArray().Select(e => e.GetDouble()).Zip(found);
        double worst = pairs.Max(p => Math.Abs(p.First - p.Second));
        Assert.True(worst <= tolerance, $"largest difference of the training path: {worst:E2}");
    }

    private static int[] GreedyByTrainingPath(Decoder decoder, int[] prompt, int count)
    {
        var tokens = prompt.ToList();
        for (int i = 0; i < count; i++)
        {
            using var scope = NewDisposeScope();
            using var batch = new PackedBatch([new([.. tokens, 0], 1)]);
            var hidden = decoder.Hidden(
                batch.Ids,
                batch.Positions,
                new PackedAttention(decoder.Config, batch.Segments)
            );
            tokens.Add((int)decoder.Logits(hidden)[-1].argmax().item<long>());
        }
        return [.. tokens.Skip(prompt.Length)];
    }

    private static Completion Complete(
        FlatWeights weights,
        Tokenizer? tokenizer,
        int[] prompt,
        SamplingParameters sampling
    )
    {
        using var engine = new Engine(new(weights), tokenizer, new() { KvCacheBytes = 64 << 20 });
        Completion? completion = null;
        engine.Submit([new("r", prompt, sampling)], onCompletion: c => completion = c);
        while (engine.Step())
            engine.CheckInvariants();
        return completion!;
    }

    private static void AssertTrainerAgrees(FlatWeights weights, int[] prompt, Completion completion, double tolerance)
    {
        using var decoder = new Decoder(weights);
        float[] trainer = PolicyModel.LogProbs(
            decoder,
            [new([.. prompt, .. completion.Tokens], prompt.Length)],
            1,
            new PolicyOptions(4096)
        )[0];
        double worst = trainer.Zip(completion.LogProbs).Max(p => Math.Abs(p.First - p.Second));
        Assert.True(worst <= tolerance, $"engine and trainer log-probs differ by {worst:E2}, allowed {tolerance:E0}");
    }

    private static int[] Ints(JsonElement e) => [.. e.EnumerateArray().Select(v => v.GetInt32())];
}
