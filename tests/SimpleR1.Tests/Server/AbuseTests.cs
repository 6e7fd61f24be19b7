using SimpleR1.Benchmarks;
using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>
/// A small part of the benchmark http-abuse. Only the benchmark judges how long good requests take: this machine may be
/// busy with other things.
/// </summary>
public sealed class AbuseTests(ITestOutputHelper output)
{
    [Fact]
    public async Task Abuse_is_answered_with_errors_and_good_requests_succeed()
    {
        await using var server = await TestServer.StartAsync(new() { Limits = new() { HeaderSeconds = 1 } });
        var phases = await new HttpAbuse(server.Server.Address, 0.01, output.WriteLine).RunAsync(
            TestContext.Current.CancellationToken
        );
        Assert.Equal(
            [
                "malformed requests",
                "slow connections",
                "bodies of 1 GB",
                "n = 1,000,000",
                "JSON of 100,000 levels",
                "clients that leave mid-stream",
            ],
            phases.Select(p => p.Name)
        );
        Assert.All(phases, p => Assert.Equal((0, 0, p.Attacks), (p.Wrong, p.GoodFailed, p.Answers.Values.Sum())));
        Assert.All(phases, p => Assert.True(p.Good > 0));
        Assert.Equal(100, phases[0].Attacks);
        await server.IdleAsync();
    }

    [Fact]
    public async Task Other_machines_are_not_abused() =>
        await Assert.ThrowsAsync<ArgumentException>(() =>
            new HttpAbuse(new("http://192.0.2.1:8000"), 1, output.WriteLine).RunAsync(
                TestContext.Current.CancellationToken
            )
        );
}
