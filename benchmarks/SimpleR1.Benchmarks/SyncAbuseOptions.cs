using SimpleR1.Bench;
using SimpleR1.Models;
using SimpleR1.WeightSync;

namespace SimpleR1.Benchmarks;

/// <summary>How often each fault disturbs weight updates.</summary>
internal sealed record SyncAbuseCounts(int Kills, int Stops, int Joiners, int Damages, int Claims);

/// <summary>The workers whose updates are disturbed, and how the weights travel.</summary>
internal sealed record SyncAbuseWorkers(
    WeightTransportChoice Transport,
    int Count = 3,
    string Device = "cpu",
    string? SendDevice = null,
    ModelConfig? Model = null
)
{
    /// <summary>The workers' model.</summary>
    public ModelConfig Model { get; } = Model ?? ClusterSelfTest.TinyModel;
}
