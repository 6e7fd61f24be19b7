using SimpleR1.Models;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Operands;
using SimpleR1.Training.Recipes.Sections;
using static TorchSharp.torch;

namespace SimpleR1.Training.Policy;

/// <summary>
/// AdamW over the flat weights (Loshchilov and Hutter 2019) with two flat moments, in one pass a step. Weight decay
/// reaches matrices only, not norms and biases. Gradient and moments are f32, where the weights are.
/// </summary>
public sealed class Optimizer(FlatWeights weights, OptimizerSection options) : IDisposable
{
    private readonly FlatBuffer gradient = new(weights, ScalarType.Float32, "the gradient");
    private readonly FlatBuffer mean = new(weights, ScalarType.Float32, "the optimizer's means");
    private readonly FlatBuffer variance = new(weights, ScalarType.Float32, "the optimizer's variances");

    private readonly List<(long First, long Count, double WeightDecay)> decays = Decays(
        weights.Layout,
        options.WeightDecay
    );

    /// <summary>The f32 weights that it changes.</summary>
    public MasterWeights Master { get; } = new(weights);
    public Tensor Gradient => gradient.Tensor;
    public Tensor Mean => mean.Tensor;
    public Tensor Variance => variance.Tensor;

    /// <summary>Updates made so far.</summary>
    public long Steps { get; set; }

    /// <summary>Makes the gradient zeros.</summary>
    public void ClearGradient() => gradient.Clear();

    /// <summary>√Σ gradient².</summary>
    public double GradientNorm() => Ops.Norm(Gradient);

    /// <summary>Clips the gradient to the largest norm allowed and updates the weights in place.</summary>
    /// <param name="gradientNorm">Norm of the whole gradient, from <see cref="GradientNorm"/>.</param>
    public void Step(double gradientNorm, double learningRate)
    {
        double limit = options.MaxGradientNorm;
        double scale = limit > 0 && gradientNorm > limit ? limit / gradientNorm : 1;
        Steps++;
        var buffers = new AdamWBuffers(weights.Flat, Master.Remainder, Gradient, Mean, Variance);
        foreach (var (first, count, weightDecay) in decays)
        {
            var settings = new AdamWSettings
            {
                Step = Steps,
                LearningRate = learningRate,
                Beta1 = options.Beta1,
                Beta2 = options.Beta2,
                Epsilon = options.Epsilon,
                WeightDecay = weightDecay,
                GradientScale = scale,
            };
            Ops.AdamWStep(buffers, first, count, settings);
        }
    }

    /// <summary>Weights that follow each other and decay alike.</summary>
    private static List<(long First, long Count, double WeightDecay)> Decays(WeightLayout layout, double weightDecay)
    {
        var decays = new List<(long First, long Count, double WeightDecay)>();
        foreach (var slot in layout.Slots)
        {
            double own = slot.Shape.Length > 1 ? weightDecay : 0;
            if (decays.Count > 0 && decays[^1].WeightDecay == own)
                decays[^1] = decays[^1] with { Count = slot.Offset + slot.Length - decays[^1].First };
            else
                decays.Add((slot.Offset, slot.Length, own));
        }
        return decays;
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
        gradient.Dispose();
        mean.Dispose();
        variance.Dispose();
        Master.Dispose();
    }
}
