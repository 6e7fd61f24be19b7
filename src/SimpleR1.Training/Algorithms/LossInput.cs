using SimpleR1.Training.Recipes.Sections;
using static TorchSharp.torch;

namespace SimpleR1.Training.Algorithms;

/// <summary>
/// What a loss sees of a micro-batch: one value per trained token, all [tokens], f32 unless they say otherwise.
/// </summary>
public sealed record LossInput
{
    /// <summary>Under the current weights; the only one with a gradient.</summary>
    public required Tensor LogProbs { get; init; }

    /// <summary>
    /// Under the trainer's weights before this batch's first update; the same values as <see cref="LogProbs"/> when
    /// there is only one update.
    /// </summary>
    public required Tensor OldLogProbs { get; init; }

    /// <summary>As the inference engine reported them while sampling.</summary>
    public required Tensor EngineLogProbs { get; init; }

    /// <summary>Under the frozen reference; null without one.</summary>
    public required Tensor? ReferenceLogProbs { get; init; }
    public required Tensor Advantages { get; init; }

    /// <summary>
    /// How much each token counts; over a whole optimizer step they add up to about 1. See <see cref="LossAverage"/>.
    /// </summary>
    public required Tensor Weights { get; init; }

    /// <summary>int64: version of the weights that made each token.</summary>
    public required Tensor WeightVersions { get; init; }

    /// <summary>int64: index of the sample that each token belongs to, 0 .. <see cref="Samples"/> - 1.</summary>
    public required Tensor Sample { get; init; }

    /// <summary>Samples in the micro-batch. All trained tokens of a sample are in the same one.</summary>
    public required int Samples { get; init; }

    /// <summary>The mean of each sample's values, at each of its tokens: [tokens] → [tokens].</summary>
    public Tensor SampleMean(Tensor values)
    {
        var sums = zeros(Samples).index_add(0, Sample, values, 1); // [samples]
        var counts = zeros(Samples).index_add(0, Sample, ones_like(values), 1); // [samples]
        return (sums / counts).index_select(0, Sample);
    }
}
