using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using static TorchSharp.torch;

namespace SimpleR1.Training;

/// <summary>One step of training on text. Losses are nats a token.</summary>
public sealed record SftStep(
    int Step,
    int Steps,
    double Loss,
    double GradientNorm,
    double LearningRate,
    double TokensPerSecond,
    double? HeldOutLoss,
    double EtaSeconds
);

/// <summary>Training on text, with the policy and the optimizer of reinforcement learning: how the tiny base model is made.</summary>
public static class Sft
{
    /// <summary>Trains, and writes the model to the recipe's output folder. When stopped, the model so far is written.</summary>
    /// <returns>Mean loss over the held-out texts at the end, or of the last step where there are none.</returns>
    public static double Run(SftRecipe recipe, Action<SftStep> report, CancellationToken stop)
    {
        Directory.CreateDirectory(recipe.Output); // rather now than after hours that it fails
        CpuParallel.Threads = Environment.ProcessorCount;
        var tokenizer = Tokenizer.Load(recipe.Model.Path ?? recipe.Model.Shape!.Tokenizer);
        using var weights = recipe.Model.Path is { } path
            ? Checkpoint.Load(path)
            : Initialize(recipe.Model.Shape!, tokenizer, recipe.Seed);
        var config = weights.Layout.Config;
        tokenizer.CheckFits(config);
        var template = PromptTemplate.Create(recipe.Model.Template);
        var texts = Encode(Dataset.Load(recipe.Data.Train), recipe, template, tokenizer, config);
        var heldOut = recipe.Data.Evaluation is { } evaluation
            ? Encode(Dataset.Load(evaluation), recipe, template, tokenizer, config)
            : null;
        using var policy = new PolicyModel(
            new(weights),
            new(weights, recipe.Optimizer),
            new(recipe.Training.TokensPerMicroBatch, recipe.Training.GradientCheckpointing)
        );
        var order = new DataOrder(texts.Length, recipe.Seed);
        var clock = Stopwatch.StartNew();
        double last = 0;
        for (int step = 0; step < recipe.Training.Steps && !stop.IsCancellationRequested; step++)
        {
            var batch = new List<TrainingSequence>();
            for (int tokens = 0; tokens < recipe.Training.TokensPerBatch; tokens += batch[^1].Computed)
                batch.Add(texts[order.Next()]);
            float weight = 1f / batch.Sum(s => s.Trained);
            var update = policy.Update(
                batch,
                1,
                step,
                Optimizer.LearningRate(recipe.Optimizer, step, recipe.Training.Steps),
                (_, logProbs) => (-(logProbs * weight).sum(), [])
            );
            last = update.Loss;
            bool evaluate =
                heldOut is not null
                && (
                    step == recipe.Training.Steps - 1
                    || recipe.Training.EvaluateEvery > 0 && (step + 1) % recipe.Training.EvaluateEvery == 0
                );
            double? heldOutLoss = evaluate ? MeanLoss(policy, heldOut!) : null;
            last = heldOutLoss ?? last;
            report(
                new(
                    step + 1,
                    recipe.Training.Steps,
                    update.Loss,
                    update.GradientNorm,
                    update.LearningRate,
                    update.Tokens / update.Seconds,
                    heldOutLoss,
                    clock.Elapsed.TotalSeconds / (step + 1) * (recipe.Training.Steps - step - 1)
                )
            );
        }
        Checkpoint.Write(
            recipe.Output,
            weights,
            recipe.Training.WeightType,
            recipe.Model.Path ?? recipe.Model.Shape!.Tokenizer
        );
        return last;
    }

    private static double MeanLoss(PolicyModel policy, TrainingSequence[] texts) =>
        -policy.LogProbs(texts, 1).Sum(p => p.Sum(x => (double)x)) / texts.Sum(t => t.Trained);

    /// <summary>prompt + answer + end of text. With LearnPrompts every token but the first is learnt, else only the answer's and the end.</summary>
    private static TrainingSequence[] Encode(
        IReadOnlyList<Problem> problems,
        SftRecipe recipe,
        PromptTemplate template,
        Tokenizer tokenizer,
        ModelConfig config
    )
    {
        if (config.EosTokenIds.Count == 0)
            throw new InvalidDataException(
                "the model's config names no end-of-sequence token; a text has no end to learn"
            );
        return
        [
            .. problems.Select(
                (p, i) =>
                {
                    int[] prompt = p.Question.Length == 0 ? [] : tokenizer.EncodePrompt(template.Render(p.Question));
                    int[] all = [.. prompt, .. tokenizer.Encode(p.Answer), config.EosTokenIds[0]];
                    if (all.Length > recipe.Training.SequenceLength)
                        throw new InvalidDataException(
                            $"text {i} has {all.Length} tokens, more than training.sequence_length ({recipe.Training.SequenceLength}); raise it or cut the text. It begins: {p.Answer[..Math.Min(60, p.Answer.Length)]}"
                        );
                    return new TrainingSequence(all, recipe.Training.LearnPrompts ? 1 : Math.Max(1, prompt.Length));
                }
            ),
        ];
    }

    /// <summary>A new model: N(0, 0.02²), the projections into the residual stream scaled down by √(2·layers) (GPT-2), norms 1, biases 0.</summary>
    private static FlatWeights Initialize(ModelShape shape, Tokenizer tokenizer, ulong seed)
    {
        int end =
            tokenizer.TokenId("<|endoftext|>")
            ?? throw new InvalidDataException(
                $"{shape.Tokenizer}: the tokenizer of a new model needs an <|endoftext|> token"
            );
        var config = new ModelConfig
        {
            Family = shape.Family,
            VocabularySize = (tokenizer.VocabularySize + 7) / 8 * 8,
            HiddenSize = shape.HiddenSize,
            IntermediateSize = shape.IntermediateSize,
            Layers = shape.Layers,
            Heads = shape.Heads,
            KeyValueHeads = shape.KeyValueHeads,
            HeadDimension = shape.HeadDimension ?? shape.HiddenSize / shape.Heads,
            MaxPositions = shape.MaxPositions,
            RmsNormEpsilon = 1e-6,
            RopeTheta = shape.RopeTheta,
            TieEmbeddings = shape.TieEmbeddings,
            EosTokenIds = [end],
        };
        var weights = new FlatWeights(new WeightLayout(config), ScalarType.Float32, CPU);
        using var generator = new Generator(seed, CPU);
        foreach (var slot in weights.Layout.Slots)
        {
            using var scope = NewDisposeScope();
            bool residual =
                slot.Name.EndsWith("attention_output", StringComparison.Ordinal)
                || slot.Name.EndsWith("down", StringComparison.Ordinal);
            if (slot.Name.EndsWith("norm", StringComparison.Ordinal))
                weights[slot.Name].fill_(1);
            else if (!slot.Name.EndsWith("bias", StringComparison.Ordinal))
                weights[slot.Name]
                    .copy_(
                        randn(slot.Shape, generator: generator)
                            * (residual ? 0.02 / Math.Sqrt(2 * config.Layers) : 0.02)
                    );
        }
        return weights;
    }
}
