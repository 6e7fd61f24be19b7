using System.Diagnostics;
using SimpleR1.WeightSync.Nccl;
using Xunit;

namespace SimpleR1.Tests.Gpu;

public sealed partial class NcclTests
{
    private static readonly TimeSpan Brief = TimeSpan.FromSeconds(10);

    [Fact]
    public async Task Refused_broadcast_leaves_its_thread_able_to_join_another_group()
    {
        var gpu = Require();
        var (here, there) = (gpu.WithOwnStream(), gpu.WithOwnStream());
        byte[] first = NcclCommunicator.NewId(),
            second = NcclCommunicator.NewId();
        using var memory = here.AllocateZeros(256, "a test");
        var other = Task.Run(
            () =>
            {
                NcclCommunicator.Join(there, new("first", 1, 2, first), Brief, Cancel).Dispose();
                NcclCommunicator.Join(there, new("second", 1, 2, second), Brief, Cancel).Dispose();
            },
            Cancel
        );
        await Task.Run(
            () =>
            {
                // A broadcast fails when NCCL sees that the other has left; the next one is refused.
                using var broken = NcclCommunicator.Join(here, new("first", 0, 2, first), Brief, Cancel);
                string error = "";
                var clock = Stopwatch.StartNew();
                while (!error.Contains("ncclBroadcast") && clock.Elapsed < Brief)
                    error =
                        Record
                            .Exception(() => broken.Broadcast(here, [(memory.Pointer, 256, 0)], "x", Brief, Cancel))
                            ?.Message
                        ?? "";
                Assert.Contains("ncclBroadcast", error);

                using var joined = NcclCommunicator.Join(here, new("second", 0, 2, second), Brief, Cancel);
            },
            Cancel
        );
        await other;
    }

    [Fact]
    public async Task Abort_that_hangs_holds_nobody_up_for_long()
    {
        var gpu = Require();
        var (here, there) = (gpu.WithOwnStream(), gpu.WithOwnStream());
        byte[] id = NcclCommunicator.NewId();
        var other = Task.Run(() => NcclCommunicator.Join(there, new("a", 1, 2, id), Brief, Cancel).Dispose(), Cancel);
        var joined = await Task.Run(() => NcclCommunicator.Join(here, new("a", 0, 2, id), Brief, Cancel), Cancel);
        await other;
        var clock = Stopwatch.StartNew();
        try
        {
            Set("EMULATED_NCCL_ABORT_MS", "15000");
            Assert.False(joined.Leave());
        }
        finally
        {
            Set("EMULATED_NCCL_ABORT_MS", null);
        }
        Assert.InRange(clock.Elapsed, NcclCommunicator.AbortTimeout, Brief);
        Assert.True(joined.Leave()); // there is nothing left to leave
    }
}
