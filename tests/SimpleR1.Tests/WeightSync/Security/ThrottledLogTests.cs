using System.Threading.Channels;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.WeightSync.Security;

public sealed class ThrottledLogTests
{
    [Fact]
    public async Task Many_lines_become_the_first_and_one_that_counts_the_rest()
    {
        var lines = Channel.CreateUnbounded<string>();
        var log = new ThrottledLog(line => lines.Writer.TryWrite(line), TimeSpan.FromMilliseconds(500));
        for (int i = 1; i <= 1000; i++)
            log.Add($"stranger {i}");

        var cancellation = TestContext.Current.CancellationToken;
        Assert.Equal("stranger 1", await lines.Reader.ReadAsync(cancellation));
        Assert.Equal(
            "stranger 1000 (and 998 more like it since the last line)",
            await lines.Reader.ReadAsync(cancellation)
        );
        log.Add("another");
        Assert.Equal("another", await lines.Reader.ReadAsync(cancellation));
    }
}
