using SimpleR1.Bench;
using SimpleR1.Cluster;
using SimpleR1.Cluster.Wire;
using SimpleR1.Cluster.Worker;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.WeightSync;
using SimpleR1.WeightSync.SharedMemory;
using SimpleR1.WeightSync.Tcp;
using Xunit;

namespace SimpleR1.Tests.Cluster;

/// <summary>A worker's answers to calls, repeated calls, and calls that it must refuse.</summary>
public sealed class WorkerRuntimeTests : IAsyncDisposable
{
    private static readonly TimeSpan Long = TimeSpan.FromMinutes(2);

    private readonly FlatWeights weights = SharedWeightMemory.Allocate(new WeightLayout(ClusterSelfTest.TinyModel));
    private readonly SharedMemoryTransport transport = new();
    private readonly WorkerRuntime runtime = new(new() { Threads = 1 }, null);
    private int updates;

    public WorkerRuntimeTests() => weights.Flat.uniform_(-0.1, 0.1);

    public async ValueTask DisposeAsync()
    {
        await runtime.DisposeAsync();
        transport.Dispose();
        weights.Dispose();
    }

    private static SetupMessage Setup(string session) =>
        new(
            session,
            WireFormat.ToJson(new WorkerSetup(ClusterSelfTest.TinyModel, null, new() { KvCacheBytes = 1 << 20 })),
            null
        );

    private static PrepareMessage Prepare(
        string session,
        string update,
        int version,
        OnUpdate onUpdate,
        bool overlap
    ) =>
        new()
        {
            Session = session,
            Update = update,
            Version = version,
            OnUpdate = onUpdate,
            Overlap = overlap,
            TimeoutSeconds = Long.TotalSeconds,
        };

    private async Task<bool> PrepareAsync(string session, string update, int version) =>
        !(await runtime.PrepareAsync(Prepare(session, update, version, OnUpdate.Keep, overlap: false))).TakenOver;

    private async Task<ulong> UpdateAsync(string session, int version)
    {
        string update = $"{session}/{++updates}";
        using var offer = transport.Offer(weights, BroadcastPlan.For(weights, version), ["worker"]);
        string[] invitations = [WireFormat.ToJson(offer.Invitations[0])];
        Assert.True(await PrepareAsync(session, update, version));
        Assert.True(await PrepareAsync(session, update, version)); // the answer was lost
        var receipt = await runtime.ReceiveAsync(update, 1, invitations, Long);
        Assert.Same(receipt, await runtime.ReceiveAsync(update, 1, invitations, Long));
        Assert.Null(receipt.Failure);
        await runtime.CommitAsync(update, version);
        await runtime.CommitAsync(update, version);
        return receipt.Hash;
    }

    private static SubmitMessage TwoSamples(string session, string name, int version, ulong hash, int tokens = 4) =>
        Batch(
            session,
            name,
            version,
            hash,
            new(
                "r",
                [1, 2],
                new()
                {
                    Samples = 2,
                    MaxTokens = tokens,
                    IgnoreEos = true,
                }
            )
        );

    private static SubmitMessage Batch(
        string session,
        string name,
        int version,
        ulong hash,
        GenerationRequest request
    ) =>
        new()
        {
            Session = session,
            Batch = name,
            WeightVersion = version,
            WeightHash = hash,
            Requests = [RequestMessage.From(request)],
            Stream = false,
        };

    /// <summary>One sample by greedy choice.</summary>
    private static GenerationRequest Greedy(int[] prompt, int tokens) =>
        new(
            "r",
            prompt,
            new()
            {
                Temperature = 0,
                MaxTokens = tokens,
                IgnoreEos = true,
            }
        );

    [Fact]
    public async Task Only_the_declared_weights_are_sampled_from()
    {
        Assert.Null((await runtime.SetupAsync(Setup("s"))).Failure);
        Assert.Contains("version -1", runtime.Submit(TwoSamples("s", "early", 0, 0)).Refused);
        ulong hash = await UpdateAsync("s", 3);
        Assert.Equal(WeightHash.Compute(weights.Pointer, weights.ByteLength), hash);
        Assert.Contains("version 3", runtime.Submit(TwoSamples("s", "a", 4, hash)).Refused);
        Assert.Contains($"{hash:x16}", runtime.Submit(TwoSamples("s", "b", 3, hash + 1)).Refused);
        Assert.Equal(new(false, false, null), runtime.Submit(TwoSamples("s", "c", 3, hash)));
        Assert.Equal(new(false, true, null), runtime.Submit(TwoSamples("other", "d", 3, hash)));
        Assert.False(await PrepareAsync("other", "other/1", 4));
    }

    [Fact]
    public async Task Finished_samples_are_kept_until_they_have_arrived()
    {
        await runtime.SetupAsync(Setup("s"));
        ulong hash = await UpdateAsync("s", 0);
        Assert.Null(runtime.Submit(TwoSamples("s", "a", 0, hash)).Refused);
        Assert.Null(runtime.Submit(TwoSamples("s", "a", 0, hash)).Refused); // not run again
        var first = await NextAsync(0);
        var again = await NextAsync(0); // the answer was lost
        Assert.Equal(first.Events[0], again.Events[0]);
        var all = new List<EventMessage>();
        for (bool done = false; !done; )
        {
            var next = await runtime.NextAsync("a", all.Count, Long);
            all.AddRange(next.Events);
            done = next.Done;
        }
        Assert.Equal([0, 1], all.Select(c => c.SampleIndex).Order());
        Assert.True(runtime.Idle);
        await Assert.ThrowsAsync<InvalidOperationException>(() => runtime.NextAsync("a", 3, Long));
        await Assert.ThrowsAsync<InvalidOperationException>(() => runtime.NextAsync("b", 0, Long));

        async Task<ProgressMessage> NextAsync(int received)
        {
            while (true)
                if (await runtime.NextAsync("a", received, Long) is { Events.Length: > 0 } some)
                    return some;
        }
    }

    [Fact]
    public async Task Another_trainer_gets_the_worker_without_the_formers_work_and_weights()
    {
        await runtime.SetupAsync(Setup("s"));
        ulong hash = await UpdateAsync("s", 0);
        Assert.Null(runtime.Submit(TwoSamples("s", "a", 0, hash, tokens: 900)).Refused);
        Assert.Null((await runtime.SetupAsync(Setup("t"))).Failure);
        await Assert.ThrowsAsync<InvalidOperationException>(() => runtime.NextAsync("a", 0, Long));
        Assert.Equal("waiting", runtime.Report().State);
        Assert.Contains("version -1", runtime.Submit(TwoSamples("t", "a", 0, hash)).Refused);
        Assert.True(runtime.Submit(TwoSamples("s", "b", 0, hash)).TakenOver);
        await UpdateAsync("t", 0);
        Assert.Null(runtime.Submit(TwoSamples("t", "a", 0, hash)).Refused);
    }

    [Fact]
    public async Task Update_that_was_cancelled_is_followed_by_the_next_one_without_a_step_in_between()
    {
        await runtime.SetupAsync(Setup("s"));
        ulong hash = await UpdateAsync("s", 0);
        Assert.True(await PrepareAsync("s", "s/cancelled", 1));
        await UpdateAsync("s", 1);
        Assert.Equal(("ready", 1), (runtime.Report().State, runtime.Report().WeightVersion));
        await Assert.ThrowsAsync<InvalidOperationException>(() => runtime.CommitAsync("s/cancelled", 2));
        Assert.Null(runtime.Submit(TwoSamples("s", "a", 1, hash)).Refused);
    }

    /// <summary>
    /// Both calls come over the network, in any order. The attempt must not begin after its cancellation, because no
    /// second one comes.
    /// </summary>
    [Fact]
    public async Task Attempt_that_was_cancelled_before_it_began_does_not_wait_for_a_sender_and_the_next_one_succeeds()
    {
        await runtime.SetupAsync(Setup("s"));
        Assert.True(await PrepareAsync("s", "s/1", 1));
        using var tcp = new TcpTransport();
        using var offer = tcp.Offer(weights, BroadcastPlan.For(weights, 1), ["worker"]);
        string[] invitations = [WireFormat.ToJson(offer.Invitations[0])];
        runtime.CancelTransfer("s/1", 1);
        Assert.Contains("cancelled", (await runtime.ReceiveAsync("s/1", 1, invitations, Long)).Failure);
        Assert.Null((await runtime.ReceiveAsync("s/1", 2, invitations, Long)).Failure);
        Assert.Equal(1, (await runtime.CommitAsync("s/1", 1)).Version);
    }

    [Fact]
    public async Task Update_that_is_abandoned_leaves_nothing_to_sample_from_until_the_next_one()
    {
        await runtime.SetupAsync(Setup("s"));
        Assert.True(await PrepareAsync("s", "s/late", 1));
        using (var offer = transport.Offer(weights, BroadcastPlan.For(weights, 1), ["worker"]))
            await runtime.ReceiveAsync("s/late", 1, [WireFormat.ToJson(offer.Invitations[0])], Long);
        await runtime.AbandonAsync("s/late");
        await runtime.AbandonAsync("s/late");
        Assert.Equal("waiting", runtime.Report().State);
        Assert.NotNull(
            runtime.Submit(TwoSamples("s", "a", 1, WeightHash.Compute(weights.Pointer, weights.ByteLength))).Refused
        );
        Assert.Null(runtime.Submit(TwoSamples("s", "b", 2, await UpdateAsync("s", 2))).Refused);
    }

    [Fact]
    public async Task Draining_worker_takes_no_more_and_is_idle_when_all_has_been_handed_over()
    {
        await runtime.SetupAsync(Setup("s"));
        ulong hash = await UpdateAsync("s", 0);
        runtime.Submit(TwoSamples("s", "a", 0, hash));
        Assert.False(runtime.Idle);
        runtime.Draining = true;
        Assert.True(runtime.Submit(TwoSamples("s", "b", 0, hash)).Draining);
        Assert.False(runtime.Submit(TwoSamples("s", "a", 0, hash)).Draining); // that one it has
        for (int received = 0; !runtime.Idle; )
        {
            var next = await runtime.NextAsync("a", received, Long);
            Assert.True(next.Draining);
            received += next.Events.Length;
        }
    }

    /// <summary>Runs one long sample, and an update in the middle of it.</summary>
    private async Task<CompletionMessage> UpdateInTheMiddleAsync(OnUpdate onUpdate, bool overlap, int tokens)
    {
        await runtime.SetupAsync(Setup("s"));
        ulong hash = await UpdateAsync("s", 1);
        var batch = Batch("s", "long", 1, hash, Greedy([1, 2, 3], tokens));
        Assert.Null(runtime.Submit(batch).Refused);
        long begun = (await runtime.NextAsync("long", 0, TimeSpan.FromMilliseconds(50))).Progress;
        using var noise = weights.Flat.clone();
        weights.Flat.uniform_(-0.1, 0.1);
        using (var offer = transport.Offer(weights, BroadcastPlan.For(weights, 2), ["worker"]))
        {
            Assert.False((await runtime.PrepareAsync(Prepare("s", "s/middle", 2, onUpdate, overlap))).TakenOver);
            Assert.Null(
                (await runtime.ReceiveAsync("s/middle", 1, [WireFormat.ToJson(offer.Invitations[0])], Long)).Failure
            );
            if (overlap) // the engine makes steps all the while
                for (
                    long before = (await runtime.NextAsync("long", 0, TimeSpan.Zero)).Progress;
                    (await runtime.NextAsync("long", 0, TimeSpan.FromMilliseconds(20))) is { Done: false } next
                        && next.Progress <= before + 1;

                ) { }
            var commit = await runtime.CommitAsync("s/middle", 2);
            Assert.Equal((2, WeightHash.Of(weights)), (commit.Version, commit.Hash));
        }
        while (true)
            if (await runtime.NextAsync("long", 0, Long) is { Events: [{ Completion: { } completion }] })
                return completion;
    }

    [Fact]
    public async Task Drained_sequences_are_finished_by_the_weights_they_were_begun_with()
    {
        var completion = (await UpdateInTheMiddleAsync(OnUpdate.Drain, overlap: false, 300)).ToCompletion();
        Assert.Equal(300, completion.Tokens.Length);
        Assert.All(completion.WeightVersions, v => Assert.Equal(1, v));
        Assert.Equal(2, runtime.Report().WeightVersion);
    }

    [Theory]
    [
        InlineData(OnUpdate.Keep, false),
        InlineData(OnUpdate.Recompute, false),
        InlineData(OnUpdate.Keep, true),
        InlineData(OnUpdate.Recompute, true)
    ]
    public async Task Running_sequences_go_on_with_the_new_weights_and_their_own_or_recomputed_keys(
        OnUpdate onUpdate,
        bool overlap
    )
    {
        var completion = (await UpdateInTheMiddleAsync(onUpdate, overlap, 900)).ToCompletion();
        int old = completion.WeightVersions.Count(v => v == 1);
        Assert.InRange(old, 1, 899);
        Assert.Equal([1, 2], completion.WeightVersions.Distinct());
        // A new request that begins with all that was there before the update computes every key by the new weights.
        int[] prompt = [1, 2, 3, .. completion.Tokens[..old]];
        runtime.Submit(Batch("s", "fresh", 2, WeightHash.Of(weights), Greedy(prompt, 20)));
        ProgressMessage fresh;
        do fresh = await runtime.NextAsync("fresh", 0, Long);
        while (fresh.Events.Length == 0);
        float expected = fresh.Events[0].Completion!.ToCompletion().LogProbs[0],
            found = completion.LogProbs[old];
        if (onUpdate == OnUpdate.Recompute)
            Assert.Equal(expected, found, 1e-5);
        else
            Assert.NotEqual(expected, found, 1e-5);
    }

    [Theory]
    [InlineData("gpu:0", "expected cpu")]
    [InlineData("cuda:99", "cuda:99")]
    public async Task Device_that_is_not_there_is_named(string device, string reason)
    {
        Assert.SkipWhen(device != "gpu:0" && SimpleR1.Tensors.Cuda.CudaDevice.Count == 0, "needs a GPU driver");
        await using var gpu = new WorkerRuntime(new() { Device = device, Threads = 1 }, null);
        Assert.Contains(reason, (await gpu.SetupAsync(Setup("s"))).Failure);
    }

    [Fact]
    public void Devices_are_one_name_or_several()
    {
        Assert.Equal(["cpu"], WorkerDevices.Expand("cpu"));
        Assert.Equal(["cpu", "cpu"], WorkerDevices.Expand("cpu, cpu"));
        Assert.Contains("'tpu'", Assert.Throws<ArgumentException>(() => WorkerDevices.Expand("cpu,tpu")).Message);
        Assert.Contains(
            "expected GPUs",
            Assert.Throws<ArgumentException>(() => WorkerDevices.ExpandGpus("cpu")).Message
        );
    }
}
