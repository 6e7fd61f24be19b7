using SimpleR1.Training.Policy;

namespace SimpleR1.Training.Algorithms;

/// <summary>The samples of one optimizer step.</summary>
/// <param name="Computed">Those that the trainer computes; weights are shares of all samples.</param>
/// <param name="TokensSkipped">Of the samples that add nothing to the gradient and are not computed.</param>
/// <param name="ReportScale">
/// Weight of all samples over that of the computed ones: turns a sum over computed tokens into a figure of the same scale
/// as one over all.
/// </param>
internal sealed record TrainingBatch(TrainingSample[] Computed, long TokensSkipped, double ReportScale);
