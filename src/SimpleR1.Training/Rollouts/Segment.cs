namespace SimpleR1.Training.Rollouts;

/// <summary>A run of tokens that the policy sampled, or that it read: a prompt, a tool's or a user's words.</summary>
/// <param name="LogProbs">
/// log p of each token when the inference engine sampled it; null when the tokens were not sampled.
/// </param>
/// <param name="WeightVersions">Version of the weights that made each token; null when the tokens were not sampled.</param>
public sealed record Segment(int[] Tokens, float[]? LogProbs, int[]? WeightVersions)
{
    /// <summary>Tokens that the policy reads.</summary>
    public static Segment Read(int[] tokens) => new(tokens, null, null);

    /// <summary>True when the policy sampled the tokens, so that they are trained.</summary>
    public bool IsSampled => LogProbs is not null;

    /// <summary>True when every sampled token has its log-prob and its version.</summary>
    internal bool IsWhole => !IsSampled || LogProbs!.Length == Tokens.Length && WeightVersions?.Length == Tokens.Length;
}
