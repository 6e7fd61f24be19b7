using SimpleR1.Cluster;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Trainer.Weights;
using SimpleR1.Inference;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.WeightSync;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu.Placement;

/// <summary>Workers whose weights and KV cache are the trainer's, in turns with training.</summary>
[Collection("GPU"), Trait("Category", "Gpu"), Trait("Category", "GpuProcesses")]
public sealed class ColocationTests() : ColocationTest(ScalarType.BFloat16)
{
    [Fact]
    public async Task Workers_compute_with_the_trainers_weights_and_pool_in_turns_with_training()
    {
        var memory = new ColocatedMemory(weights, pool);
        await using var cluster = await StartAsync(Options(2, memory));
        var workers = cluster.Workers;
        for (int version = 0; version < 3; version++)
        {
            var report = await workers.PushWeightsAsync(weights, version, Cancel);
            Assert.Equal(("ipc", WeightHash.Of(host, Type), 0L), (report.Transport, report.Hash, report.SentBytes));
            Assert.Equal([1, 2], report.Workers);
            Assert.Contains("lent", Assert.Throws<InvalidOperationException>(() => memory.Pool).Message);

            // One at a time, as the ordinary engine.
            var requests = Requests(version);
            List<Completion> found = [];
            foreach (var request in requests)
                found.AddRange(await GenerateAsync(workers, [request]));
            AssertSame(Ordinary(requests), found, version);

            await workers.ReclaimMemoryAsync(Cancel);
            Assert.All(workers.Status(), w => Assert.Equal((WorkerState.Waiting, -1), (w.State, w.WeightVersion)));
            Assert.NotEqual(-1, ChangedAt(memory)); // the workers' keys and values were here
            UsePool(memory);
            ChangeWeights();
            AssertPoolIsIntact(memory);
        }
        Assert.Empty(log);
    }

    [Fact]
    public async Task Weights_are_live_at_once_and_damage_in_them_is_found()
    {
        UpdateDamage? damage = null;
        var options = Options(1, new ColocatedMemory(weights, pool)) with { Phase = phase => damage?.Enter(phase) };
        await using var cluster = await StartAsync(options);
        var workers = cluster.Workers;
        var report = await workers.PushWeightsAsync(weights, 0, Cancel);

        // Damage that comes after the proof shows when the worker is asked again.
        Damage();
        ulong damaged = WeightHash.Of(weights);
        Assert.NotEqual(report.Hash, damaged);
        Assert.Equal(damaged, (await workers.HeldWeightsAsync(Cancel)).Single().Hash);

        // Damage between the trainer's hash and the worker's.
        await workers.ReclaimMemoryAsync(Cancel);
        damage = new(() => Damage());
        var error = await Assert.ThrowsAsync<InvalidOperationException>(() =>
            workers.PushWeightsAsync(weights, 1, Cancel)
        );
        Assert.Contains("weights changed while version 1 was being sent", error.Message);
    }

    private void Damage()
    {
        nint place = weights.Pointer + 64;
        gpu.Write<byte>(place, [(byte)(gpu.Read<byte>(place, 1)[0] ^ 1)]);
    }

    /// <summary>Damages weights once, when the trainer has hashed them and no worker has.</summary>
    private sealed class UpdateDamage(Action damage)
    {
        public void Enter(UpdatePhase phase)
        {
            if (phase != UpdatePhase.Transfer)
                return;
            Thread.Sleep(1000); // the hash of these few weights has long been computed
            damage();
        }
    }

    [Fact]
    public async Task Weights_that_change_while_they_are_lent_are_not_pushed()
    {
        await using var cluster = await StartAsync(Options(1, new ColocatedMemory(weights, pool)));
        await cluster.Workers.PushWeightsAsync(weights, 0, Cancel);
        await Assert.ThrowsAsync<InvalidOperationException>(() => cluster.Workers.PushWeightsAsync(weights, 1, Cancel));
        await cluster.Workers.ReclaimMemoryAsync(Cancel);
        await cluster.Workers.ReclaimMemoryAsync(Cancel); // nothing is lent
        await Assert.ThrowsAsync<ArgumentException>(() => cluster.Workers.PushWeightsAsync(host, 1, Cancel));
        Assert.Equal(1, (await cluster.Workers.PushWeightsAsync(weights, 1, Cancel)).Version);
    }

    /// <summary>Requests that run when the memory is reclaimed wait for the next weights, and are computed again.</summary>
    [Fact]
    public async Task Running_sequences_wait_while_the_trainer_has_the_memory()
    {
        var memory = new ColocatedMemory(weights, pool);
        await using var cluster = await StartAsync(Options(1, memory));
        await cluster.Workers.PushWeightsAsync(weights, 0, Cancel);
        var requests = Requests(0, 4).Select(r => r with { Sampling = r.Sampling with { MaxTokens = 56 } }).ToArray();
        var generating = GenerateAsync(cluster.Workers, requests);
        await WaitAsync(() => cluster.Workers.Status()[0].OutstandingTokens > 0, "the worker to have requests");
        await Task.Delay(200, Cancel);

        await cluster.Workers.ReclaimMemoryAsync(Cancel);
        UsePool(memory);
        await Task.Delay(300, Cancel);
        AssertPoolIsIntact(memory);
        Assert.False(generating.IsCompleted);
        ChangeWeights();
        await cluster.Workers.PushWeightsAsync(weights, 1, Cancel);

        var completions = await generating.WaitAsync(Patience, Cancel);
        Assert.Equal(requests.Select(r => r.Id), completions.Select(c => c.RequestId));
        Assert.All(completions, c => Assert.Equal((56, 1), (c.Tokens.Length, c.WeightVersions[^1])));
        Assert.Empty(log);
    }

    /// <summary>The worker computes in another type than the trainer: it shares the pool, and has weights of its own.</summary>
    [Fact]
    public async Task Worker_of_another_type_shares_the_pool_only()
    {
        var memory = new ColocatedMemory(weights, pool);
        var options = Options(1, memory);
        await using var cluster = await StartAsync(options with { Worker = options.Worker with { Type = "f32" } });
        for (int version = 0; version < 2; version++)
        {
            var report = await cluster.Workers.PushWeightsAsync(weights, version, Cancel);
            Assert.Equal(
                ("shared-memory", WeightHash.Of(weights, ScalarType.Float32)),
                (report.Transport, report.Hash)
            );
            Assert.Equal(6, (await GenerateAsync(cluster.Workers, Requests(version))).Count);
            await cluster.Workers.ReclaimMemoryAsync(Cancel);
            Assert.NotEqual(-1, ChangedAt(memory)); // the workers' keys and values were here
            UsePool(memory);
            ChangeWeights();
        }
    }

    [Theory, InlineData("get"), InlineData("open")]
    public async Task Where_the_driver_shares_no_memory_workers_have_their_own_and_a_message_says_so(string refused)
    {
        Assert.SkipUnless(CudaLibraries.Emulated, "a real driver can't be told to refuse");
        NcclTests.Set("EMULATED_IPC_REFUSES", refused);
        try
        {
            int freed = 0;
            var memory = new ColocatedMemory(weights, pool) { Refused = () => freed++ };
            Assert.Equal(refused == "get", memory.Refusal is not null);
            await using var cluster = await StartAsync(Options(2, memory));
            for (int version = 0; version < 2; version++)
            {
                var report = await cluster.Workers.PushWeightsAsync(weights, version, Cancel);
                Assert.Equal(("shared-memory", WeightHash.Of(host, Type)), (report.Transport, report.Hash));
                Assert.Equal(6, (await GenerateAsync(cluster.Workers, Requests(version))).Count);
                await cluster.Workers.ReclaimMemoryAsync(Cancel);
                AssertPoolIsIntact(memory);
                ChangeWeights();
            }
            Assert.Equal(1, freed);
            Assert.Contains("the driver shares no memory between processes here", Assert.Single(log));
        }
        finally
        {
            NcclTests.Set("EMULATED_IPC_REFUSES", null);
        }
    }
}
