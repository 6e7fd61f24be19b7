using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Policy;
using Xunit;

namespace SimpleR1.Tests.Inference;

/// <summary>
/// The real Qwen2.5-Coder-0.5B-Instruct against transformers in f32. SIMPLE_R1_QWEN names the unpacked model folder.
/// Takes half a minute and 5 GB: <c>SIMPLE_R1_QWEN=FOLDER dotnet test -c Release --filter-class
/// "*QwenReferenceTests"</c>.
/// </summary>
public sealed class QwenReferenceTests
{
    [Fact]
    public void Prompt_log_probs_and_greedy_tokens_equal_transformers()
    {
        string reference = SharedData.Require("models/Qwen2.5-Coder-0.5B-Instruct/reference_f32.json");
        string? folder = Environment.GetEnvironmentVariable("SIMPLE_R1_QWEN");
        Assert.SkipWhen(string.IsNullOrEmpty(folder), "needs SIMPLE_R1_QWEN: the folder of the unpacked model");
        using var weights = Checkpoint.Load(folder!);
        var tokenizer = Tokenizer.Load(folder!);
        using var decoder = new Decoder(weights);
        using var document = JsonDocument.Parse(File.ReadAllBytes(reference));
        foreach (var prompt in document.RootElement.GetProperty("prompts").EnumerateArray())
        {
            int[] ids = [.. prompt.GetProperty("prompt_ids").EnumerateArray().Select(e => e.GetInt32())];
            Assert.Equal(ids, tokenizer.Encode(prompt.GetProperty("text").GetString()!));
            CheckLogProbs(decoder, ids, prompt.GetProperty("prompt_logprobs"));
            using var engine = new Engine(decoder, tokenizer, new() { KvCacheBytes = 128 << 20 });
            CheckGreedy(engine, ids, [.. prompt.GetProperty("greedy").EnumerateArray()]);
        }
    }

    private static void CheckLogProbs(Decoder decoder, int[] ids, JsonElement expected)
    {
        float[] logProbs = PolicyModel.LogProbs(decoder, [new(ids, 1)], 1, new PolicyOptions(4096))[0];
        double worst = expected
            .EnumerateArray()
            .Select(e => e.GetDouble())
            .Zip(logProbs)
            .Max(p => Math.Abs(p.First - p.Second));
        Assert.True(worst <= 1e-3, $"prompt log-probs differ by {worst:E2}");
    }

    private static void CheckGreedy(Engine engine, int[] ids, JsonElement[] expected)
    {
        var sampling = new SamplingParameters
        {
            MaxTokens = expected.Length,
            Temperature = 0,
            TopLogProbs = 5,
        };
        Completion? completion = null;
        engine.Submit([new("r", ids, sampling)], onCompletion: c => completion = c);
        while (engine.Step())
            engine.CheckInvariants();
        Assert.Equal(expected.Select(g => g.GetProperty("id").GetInt32()), completion!.Tokens);
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i].GetProperty("logprob").GetDouble(), completion.LogProbs[i], 1e-3);
    }
}
