namespace SimpleR1.Tensors.Operands;

/// <summary>The numbers of an AdamW update (Loshchilov and Hutter 2019).</summary>
public readonly record struct AdamWSettings
{
    /// <summary>Number of this update, from 1; corrects the moments' bias.</summary>
    public required long Step { get; init; }
    public required double LearningRate { get; init; }
    public required double Beta1 { get; init; }
    public required double Beta2 { get; init; }
    public required double Epsilon { get; init; }
    public required double WeightDecay { get; init; }

    /// <summary>Multiplies the gradient first; below 1 where it is clipped.</summary>
    public required double GradientScale { get; init; }
}
