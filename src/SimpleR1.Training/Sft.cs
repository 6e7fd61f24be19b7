using System.Diagnostics;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using static TorchSharp.torch;

namespace SimpleR1.Training;

/// <summary>One step of training on text. Losses are nats a token.</summary>
public sealed record SftStep
{
    /// <summary>Steps finished.</summary>
    public required int Step { get; init; }
    public required int Steps { get; init; }
    public required double Loss { get; init; }
    public required double GradientNorm { get; init; }
    public required double LearningRate { get; init; }
    public required double TokensPerSecond { get; init; }

    /// <summary>Null after a step that is not followed by an evaluation.</summary>
    public required double? HeldOutLoss { get; init; }

    /// <summary>Until the last step, at the mean pace so far.</summary>
    public required double EtaSeconds { get; init; }
}

/// <summary>
/// Training on text, with the policy and the optimizer of reinforcement learning: how the tiny base model is made.
/// </summary>
public static class Sft
{
    /// <summary>
    /// Trains, and writes the model to the recipe's output folder. When stopped, the model so far is written.
    /// </summary>
    /// <returns>Mean loss over the held-out texts at the end, or of the last step when there are none.</returns>
    /// <param name="log">Receives a line about rows that can't be used.</param>
    public static double Run(
        SftRecipe recipe,
        Action<SftStep> report,
        CancellationToken stop,
        Action<string>? log = null
    )
    {
        Directory.CreateDirectory(recipe.Output); // fail now, not after hours of training
        CpuParallel.Threads = Environment.ProcessorCount;

        // The model and the texts
        string tokenizerFolder = recipe.Model.Path ?? recipe.Model.Shape!.Tokenizer;
        var tokenizer = Tokenizer.Load(tokenizerFolder);
        using var weights = recipe.Model.Path is { } path
            ? Checkpoint.Load(path)
            : Initialize(recipe.Model.Shape!, tokenizer, recipe.Seed);
        tokenizer.CheckFits(weights.Layout.Config);

        var encoder = new SftTexts(recipe, tokenizer, weights.Layout.Config);
        var (texts, order) = encoder.Load(recipe.Data.Train, log);
        var heldOut = recipe.Data.Evaluation is { } evaluation ? encoder.Load(evaluation, log).Texts : null;
        using var policy = new PolicyModel(
            new(weights),
            new(weights, recipe.Optimizer),
            new(recipe.Training.TokensPerMicroBatch, recipe.Training.GradientCheckpointing)
        );

        // Steps
        var clock = Stopwatch.StartNew();
        double last = 0;
        for (int step = 0; step < recipe.Training.Steps && !stop.IsCancellationRequested; step++)
        {
            var update = Update(policy, NextBatch(texts, order, recipe.Training.TokensPerBatch), recipe, step);
            bool evaluates = heldOut is not null && IsEvaluated(recipe.Training, step + 1);
            double? heldOutLoss = evaluates ? MeanLoss(policy, heldOut!) : null;
            last = heldOutLoss ?? update.Loss;
            report(Step(update, heldOutLoss, step + 1, recipe.Training.Steps, clock.Elapsed));
        }

        Checkpoint.Write(recipe.Output, weights, recipe.Training.WeightType, tokenizerFolder);
        encoder.Template.WriteTo(recipe.Output, tokenizer);
        return last;
    }

    private static List<TrainingSequence> NextBatch(TrainingSequence[] texts, DataOrder order, int tokens)
    {
        var batch = new List<TrainingSequence>();
        for (int computed = 0; computed < tokens; computed += batch[^1].Computed)
            batch.Add(texts[order.Next()]);
        return batch;
    }

    private static UpdateStatistics Update(PolicyModel policy, List<TrainingSequence> batch, SftRecipe recipe, int step)
    {
        double learningRate = Optimizer.LearningRate(recipe.Optimizer, step, recipe.Training.Steps);
        float weight = 1f / batch.Sum(s => s.Trained);
        return policy.Update(batch, 1, step, learningRate, (_, logProbs) => (-(logProbs * weight).sum(), []));
    }

    /// <param name="step">Steps finished.</param>
    private static bool IsEvaluated(SftTrainingSection training, int step) =>
        step == training.Steps || training.EvaluateEvery > 0 && step % training.EvaluateEvery == 0;

    private static SftStep Step(UpdateStatistics update, double? heldOutLoss, int step, int steps, TimeSpan elapsed) =>
        new()
        {
            Step = step,
            Steps = steps,
            Loss = update.Loss,
            GradientNorm = update.GradientNorm,
            LearningRate = update.LearningRate,
            TokensPerSecond = update.Tokens / update.Seconds,
            HeldOutLoss = heldOutLoss,
            EtaSeconds = elapsed.TotalSeconds / step * (steps - step),
        };

    private static double MeanLoss(PolicyModel policy, TrainingSequence[] texts) =>
        -policy.LogProbs(texts, 1).Sum(p => p.Sum(x => (double)x)) / texts.Sum(t => t.Trained);

    /// <summary>
    /// A new model: N(0, 0.02²), the projections into the residual stream scaled down by √(2·layers) (GPT-2), norms 1,
    /// biases 0.
    /// </summary>
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
            if (slot.IsNorm)
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
