namespace SimpleR1.Training.Rewards;

/// <summary>What a reward says of whether the answer solves the problem; the better judges come first.</summary>
public enum Judgement
{
    /// <summary>It is 1 or more exactly when the answer solves the problem.</summary>
    Answer,

    /// <summary>Nobody has said. It judges where no reward of a set is known to.</summary>
    Unknown,

    /// <summary>Nothing.</summary>
    None,
}
