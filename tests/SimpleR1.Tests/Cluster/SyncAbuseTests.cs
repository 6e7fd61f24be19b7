using SimpleR1.Benchmarks;
using SimpleR1.WeightSync;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>A short version of <c>benchmarks -- sync abuse</c>.</summary>
[Collection("worker processes")]
public sealed class SyncAbuseTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(WeightTransportChoice.SharedMemory, 1, 0)]
    [InlineData(WeightTransportChoice.Tcp, 1, 1)] // few, because processes take long to start
    public async Task Updates_survive_faults_of_workers(WeightTransportChoice transport, int kills, int faults)
    {
        var report = new StringWriter();
        await SyncAbuse.RunAsync(
            report,
            new(transport, Count: 2),
            new(kills, Stops: 0, Joiners: 0, Damages: faults, Claims: faults)
        );
        output.WriteLine(report.ToString());
        Assert.Contains("nothing is left over", report.ToString());
    }
}
