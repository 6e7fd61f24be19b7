using SimpleR1.Benchmarks;
using SimpleR1.Cluster;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>A short version of <c>benchmarks -- sync abuse</c>.</summary>
[Collection("worker processes")]
public sealed class SyncAbuseTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(WeightTransportChoice.SharedMemory, 2, 0), InlineData(WeightTransportChoice.Tcp, 2, 1)]
    public async Task Updates_survive_what_is_done_to_workers_in_every_phase(WeightTransportChoice transport, int kills, int stops)
    {
        var said = new StringWriter();
        await SyncAbuse.RunAsync(said, transport, new(kills, stops, Joiners: 1, Damages: 1, Claims: 1));
        output.WriteLine(said.ToString());
        Assert.Contains("nothing is left over", said.ToString());
    }
}
