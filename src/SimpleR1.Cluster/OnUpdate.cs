namespace SimpleR1.Cluster;

/// <summary>What becomes of sequences that are being generated when new weights come.</summary>
public enum OnUpdate
{
    /// <summary>They continue with the keys and values they have, which the old weights made.</summary>
    Keep,

    /// <summary>They continue, and the new weights compute their keys and values again.</summary>
    Recompute,

    /// <summary>They finish first, with the weights that they began with; waiting ones begin after the update.</summary>
    Drain,
}
