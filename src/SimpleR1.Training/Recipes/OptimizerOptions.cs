namespace SimpleR1.Training;

public sealed record OptimizerOptions
{
    public double LearningRate { get; init; } = 1e-6;
    public double Beta1 { get; init; } = 0.9;
    public double Beta2 { get; init; } = 0.999;
    public double Epsilon { get; init; } = 1e-8;
    public double WeightDecay { get; init; }
    public double MaxGradientNorm { get; init; } = 1;
    public Schedule Schedule { get; init; } = Schedule.Constant;
    public int WarmupSteps { get; init; }
    public double FinalLearningRateRatio { get; init; }
}
