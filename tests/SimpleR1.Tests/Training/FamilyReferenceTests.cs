using System.Text.Json;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Policy;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Training;

/// <summary>Random models of each family against log-probs, entropies, loss and gradients computed in float64 by transformers.</summary>
public sealed class FamilyReferenceTests
{
    public static readonly TheoryData<string> Families = ["llama", "llama3_rope", "qwen2", "qwen3"];

    private static string Folder(string family) =>
        Path.Combine(SharedData.RepositoryRoot, "tests", "data", "tiny-random", family);

    [Theory, MemberData(nameof(Families))]
    public void Packed_training_path_gives_the_reference_log_probs_entropies_loss_and_gradients(string family)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Folder(family), "reference_fp64.json")));
        var sequences = document.RootElement.GetProperty("sequences").EnumerateArray().ToArray();
        using var weights = Checkpoint.Load(Folder(family));
        using var policy = new PolicyModel(
            new SimpleR1.Models.Decoder(weights),
            new Optimizer(weights, new() { MaxGradientNorm = 0 }),
            new(64)
        );
        TrainingSequence[] inputs =
        [
            .. sequences.Select(s => new TrainingSequence(
                Ints(s.GetProperty("ids")),
                s.GetProperty("prompt_length").GetInt32()
            )),
        ];

        using (NewDisposeScope())
        {
            using var batch = new PackedBatch(inputs);
            var (logProbs, entropy) = batch.LogProbs(policy.Decoder, 1, HeadMemory.Cpu);
            AssertClose(sequences.SelectMany(s => Doubles(s.GetProperty("completion_logprobs"))), logProbs, 1e-5);
            AssertClose(sequences.SelectMany(s => Doubles(s.GetProperty("entropy"))), entropy, 1e-5);
        }

        Assert.Equal(document.RootElement.GetProperty("loss").GetDouble(), Update(policy, inputs).Loss, 1e-6);
        AssertGradients(family, policy);
    }

    /// <summary>With a weight for each token that follows from its place, as the reference program has it.</summary>
    private static UpdateStatistics Update(PolicyModel policy, TrainingSequence[] inputs)
    {
        int tokens = inputs.Sum(s => s.Trained);
        return policy.Update(
            inputs,
            1,
            0,
            0,
            (range, logProbs) =>
            {
                var weight = inputs
                    .Take(range)
                    .SelectMany(s => Enumerable.Range(0, s.Trained))
                    .Select(t => (float)((t * 7919 % 13 - 6) / 6.0 / tokens))
                    .ToArray();
                return (-(logProbs * tensor(weight)).sum(), []);
            }
        );
    }

    private static void AssertGradients(string family, PolicyModel policy)
    {
        var weights = policy.Weights;
        using var gradients = SafetensorsFile.Open(Path.Combine(Folder(family), "gradients.safetensors"));
        using var expected = new FlatWeights(weights.Layout, ScalarType.Float32, CPU);
        foreach (var t in weights.Layout.CheckpointTensors)
        {
            using var scope = NewDisposeScope();
            unsafe
            {
                gradients.Read(gradients.Entries[t.Name], (float*)expected.Pointer + t.Offset);
            }
            var want = expected.Flat.narrow(0, t.Offset, t.Length);
            var found = policy.Optimizer.Gradient.narrow(0, t.Offset, t.Length);
            double error = (want - found).norm().item<float>() / want.norm().item<float>();
            Assert.True(error <= 1e-4, $"{t.Name}: gradient off by {error:E2} of its norm");
        }
    }

    [Theory, MemberData(nameof(Families))]
    public void Checkpoint_written_back_holds_the_same_bytes(string family)
    {
        using var weights = Checkpoint.Load(Folder(family));
        string copy = Directory.CreateTempSubdirectory("simple-r1-test").FullName;
        try
        {
            Checkpoint.Write(copy, weights, WeightType.F32, Folder(family), shardBytes: 100_000);
            Assert.True(
                File.Exists(Path.Combine(copy, "model.safetensors.index.json")),
                "a checkpoint past the shard size must be sharded"
            );
            using var again = Checkpoint.Load(copy);
            Assert.True(weights.Flat.Equals(again.Flat));
            Assert.Equal(weights.Layout.Fingerprint(), again.Layout.Fingerprint());
            Assert.True(File.Exists(Path.Combine(copy, "generation_config.json")));
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }
    }

    private static int[] Ints(JsonElement e) => [.. e.EnumerateArray().Select(v => v.GetInt32())];

    private static IEnumerable<double> Doubles(JsonElement e) => e.EnumerateArray().Select(v => v.GetDouble());

    private static void AssertClose(IEnumerable<double> expected, Tensor found, double tolerance)
    {
        double[] want = [.. expected];
        float[] values = found.data<float>().ToArray();
        Assert.Equal(want.Length, values.Length);
        double worst = want.Zip(values).Max(p => Math.Abs(p.First - p.Second));
        Assert.True(worst <= tolerance, $"largest difference {worst:E2}, allowed {tolerance:E0}");
    }
}
