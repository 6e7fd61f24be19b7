using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Recipes.Sections;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>
/// AdamW over the flat weights (Loshchilov and Hutter 2019) with two flat moments, in one pass a step. Weight decay
/// reaches matrices only, not norms and biases.
/// </summary>
public sealed class Optimizer(FlatWeights weights, OptimizerSection options) : IDisposable
{
    public Tensor Gradient { get; } = zeros_like(weights.Flat).DetachFromDisposeScope();
    public Tensor Mean { get; } = zeros_like(weights.Flat).DetachFromDisposeScope();
    public Tensor Variance { get; } = zeros_like(weights.Flat).DetachFromDisposeScope();

    /// <summary>Updates made so far.</summary>
    public long Steps { get; set; }

    /// <summary>√Σ gradient².</summary>
    public double GradientNorm() => Ops.Norm(Gradient);

    /// <summary>Clips the gradient to the largest norm allowed and updates the weights in place.</summary>
    /// <param name="gradientNorm">Norm of the whole gradient, from <see cref="GradientNorm"/>.</param>
    public void Step(double gradientNorm, double learningRate)
    {
        double limit = options.MaxGradientNorm;
        double scale = limit > 0 && gradientNorm > limit ? limit / gradientNorm : 1;
        Steps++;
        var buffers = new AdamWBuffers(weights.Flat, Gradient, Mean, Variance);
        foreach (var slot in weights.Layout.Slots)
        {
            var settings = new AdamWSettings
            {
                Step = Steps,
                LearningRate = learningRate,
                Beta1 = options.Beta1,
                Beta2 = options.Beta2,
                Epsilon = options.Epsilon,
                WeightDecay = slot.Shape.Length > 1 ? options.WeightDecay : 0,
                GradientScale = scale,
            };
            Ops.AdamWStep(buffers, slot.Offset, slot.Length, settings);
        }
    }

    /// <summary>
    /// Learning rate of a step: linear warm-up, then constant, or linear or half a cosine down to the final ratio.
    /// </summary>
    /// <param name="step">From 0.</param>
    public static double LearningRate(OptimizerSection options, int step, int steps)
    {
        int warmup = options.WarmupIn(steps);
        if (step < warmup)
            return options.LearningRate * (step + 1) / warmup;
        int after = steps - 1 - warmup; // steps from the warm-up's end to the last step
        double progress = after <= 0 ? 1 : Math.Min(1, (double)(step - warmup) / after);
        double remaining = options.Schedule switch
        {
            Schedule.Linear => 1 - progress,
            Schedule.Cosine => (1 + Math.Cos(Math.PI * progress)) / 2,
            _ => 1,
        };
        return options.LearningRate
            * (options.FinalLearningRateRatio + (1 - options.FinalLearningRateRatio) * remaining);
    }

    public void Dispose()
    {
        Gradient.Dispose();
        Mean.Dispose();
        Variance.Dispose();
    }
}
