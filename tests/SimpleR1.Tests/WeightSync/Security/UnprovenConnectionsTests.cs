using System.Net;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.WeightSync.Security;

public sealed class UnprovenConnectionsTests
{
    private readonly List<string> dropped = [];

    private IDisposable Enter(UnprovenConnections connections, string address, string name) =>
        connections.Enter(new IPEndPoint(IPAddress.Parse(address), 1), () => dropped.Add(name));

    [Fact]
    public void One_too_many_drops_the_oldest_and_never_one_that_is_proven()
    {
        var connections = new UnprovenConnections(limit: 3, limitOfAddress: 3);
        var proven = Enter(connections, "10.0.0.1", "proven");
        var late = Enter(connections, "10.0.0.2", "a");
        Enter(connections, "10.0.0.3", "b");
        proven.Dispose();
        Enter(connections, "10.0.0.4", "c");
        Enter(connections, "10.0.0.5", "d");
        Enter(connections, "10.0.0.6", "e");
        Assert.Equal(["a", "b"], dropped);
        late.Dispose(); // after it was dropped
        proven.Dispose();
        Assert.Equal(3, connections.Count);
    }

    [Theory]
    [InlineData("10.0.0.1", "10.0.0.1", "10.0.0.2")]
    [InlineData("10.0.0.1", "::ffff:10.0.0.1", "::ffff:10.0.0.2")]
    [InlineData("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1")] // a network of 64 bits is one stranger
    public void Address_has_a_limit_of_its_own(string address, string same, string other)
    {
        var connections = new UnprovenConnections(limit: 100, limitOfAddress: 2);
        Enter(connections, other, "member");
        Enter(connections, address, "a");
        Enter(connections, same, "b");
        Assert.Empty(dropped);
        Enter(connections, address, "c");
        Enter(connections, same, "d");
        Assert.Equal(["a", "b"], dropped);
        Assert.Equal(3, connections.Count);
    }

    [Fact]
    public void Connections_that_end_leave_nothing_behind()
    {
        var connections = new UnprovenConnections(limit: 2, limitOfAddress: 1);
        for (int i = 0; i < 1000; i++)
            Enter(connections, $"10.0.{i / 250}.{i % 250}", "x").Dispose();
        Assert.Equal(0, connections.Count);
        Assert.Empty(dropped);
    }
}
