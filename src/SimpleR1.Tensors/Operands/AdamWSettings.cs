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

    /// <summary>The learning rate, corrected for the bias of the mean.</summary>
    internal double Rate => LearningRate / (1 - Math.Pow(Beta1, Step));

    /// <summary>What the variance's root is multiplied by, to correct its bias.</summary>
    internal double RootScale => 1 / Math.Sqrt(1 - Math.Pow(Beta2, Step));

    /// <summary>What weight decay leaves of a weight.</summary>
    internal double Keep => 1 - LearningRate * WeightDecay;
}
