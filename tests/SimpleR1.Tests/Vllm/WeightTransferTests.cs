using System.Net;
using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Tests.Server;
using SimpleR1.Vllm;
using SimpleR1.Vllm.Collectives;
using SimpleR1.WeightSync;
using Xunit;

namespace SimpleR1.Tests.Vllm;

/// <summary>
/// vLLM's weight-transfer protocol over the loopback interface: our trainer's side against our server's, with TCP in
/// NCCL's place.
/// </summary>
public sealed class WeightTransferTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static CancellationToken Token => TestContext.Current.CancellationToken;
    private static readonly GenerationRequest Request = new(
        "r",
        [1, 2, 3, 4, 5],
        new()
        {
            MaxTokens = 12,
            Samples = 2,
            Seed = 3,
            IgnoreEos = true,
        }
    );
    internal const string Endless = "{\"prompt\":\"a\",\"max_tokens\":4000,\"ignore_eos\":true,\"stream\":true}";

    internal static Task<TestServer> StartAsync() =>
        TestServer.StartAsync(new() { WeightUpdates = true, DrainTimeout = TimeSpan.FromSeconds(5) });

    private static FlatWeights NewWeights(TestServer server, long seed = 99) =>
        TinyModels.Random(server.Source.Config, seed);

    private static ulong Hash(FlatWeights weights) => WeightHash.Compute(weights.Pointer, weights.ByteLength);

    /// <summary>The body of the init call for a group of two, in which the server has rank 1.</summary>
    /// <param name="more">Further fields.</param>
    internal static string Init(byte[] id, string more = "") =>
        $"{{\"init_info\":{{\"nccl_unique_id_b64\":\"{Convert.ToBase64String(id)}\","
        + $"\"rank_offset\":1,\"world_size\":2{more}}}}}";

    /// <summary>The body of an update call for these tensors.</summary>
    private static string Update(IEnumerable<CheckpointTensor> tensors, string type) =>
        JsonSerializer.Serialize(
            new
            {
                update_info = new
                {
                    names = tensors.Select(t => t.Name),
                    dtype_names = tensors.Select(_ => type),
                    shapes = tensors.Select(t => t.Shape),
                },
            }
        );

    internal static async Task<JsonElement> Post(TestServer server, string path, string json = "{}") =>
        await server.PostAsync(path, json);

    [Fact]
    public async Task Pushed_weights_arrive_bit_for_bit_and_are_sampled_from()
    {
        await using var server = await StartAsync();
        using var collectives = new TcpCollectives();
        using var trainer = new VllmConnection(
            new(new($"vllm://127.0.0.1:{server.Server.Address.Port}")),
            collectives,
            Patience
        );
        await trainer.JoinAsync(IPAddress.Loopback, Token);
        Assert.False((await GetAsync(server, "/is_paused")).GetProperty("is_paused").GetBoolean());
        var before = await trainer.GenerateAsync(Request, Token);
        for (int version = 5; version <= 6; version++)
        {
            using var weights = NewWeights(server, version);
            await trainer.PushWeightsAsync(weights, version, Token);
            Assert.Equal(Hash(weights), Hash(server.Source.Weights));
            var after = await trainer.GenerateAsync(Request, Token);
            Assert.All(after, c => Assert.All(c.WeightVersions, v => Assert.Equal(version, v)));
            Assert.NotEqual(before.Select(c => c.LogProbs), after.Select(c => c.LogProbs));
            // What an engine with these weights samples itself.
            var own = new List<Completion>();
            await foreach (var e in server.Source.StreamAsync(Request, Token))
                if (e.Completion is { } done)
                    own.Add(done);
            Assert.Equal(own.OrderBy(c => c.SampleIndex).Select(c => c.Tokens), after.Select(c => c.Tokens));
            Assert.Equal(own.OrderBy(c => c.SampleIndex).Select(c => c.LogProbs), after.Select(c => c.LogProbs));
            before = after;
        }
    }

    [Fact]
    public async Task Update_while_requests_run_lets_them_go_on_with_the_new_weights()
    {
        await using var server = await StartAsync();
        using var collectives = new TcpCollectives();
        using var trainer = new VllmConnection(new(server.Server.Address), collectives, Patience);
        await trainer.JoinAsync(IPAddress.Loopback, Token);
        var running = server.StreamAsync("/v1/completions", Endless.Replace("4000", "500", StringComparison.Ordinal));
        await TestServer.UntilAsync(() => server.Source.Statistics.Running == 1, () => "the request to run");
        using var weights = NewWeights(server);
        await trainer.PushWeightsAsync(weights, 1, Token);
        var events = await running.WaitAsync(Patience, Token);
        Assert.Equal(
            ["length"],
            events
                .Select(e => e.GetProperty("choices")[0].GetProperty("finish_reason").GetString())
                .Where(r => r is not null)
        );
        Assert.Equal("weights-1", events[^1].GetProperty("system_fingerprint").GetString());
        await server.IdleAsync();
    }

    /// <summary>
    /// A trainer as others write them: bf16, packed with a small buffer, the id in the init call, tensors in another
    /// order, in two updates.
    /// </summary>
    [Fact]
    public async Task Packed_bf16_from_a_foreign_trainer_arrives_rounded()
    {
        await using var server = await StartAsync();
        using var collectives = new TcpCollectives();
        byte[] id = collectives.NewId();
        var join = Task.Run(() => collectives.Join(id, 0, 2, Patience), Token);
        await Post(
            server,
            "/init_weight_transfer_engine",
            Init(id, ",\"packed\":true,\"packed_buffer_size_bytes\":3000,\"packed_num_buffers\":2")
        );
        using var group = await join;
        using var weights = NewWeights(server);
        var tensors = weights.Layout.CheckpointTensors.Reverse().ToArray();
        await Post(server, "/pause?mode=abort");
        await Post(server, "/start_weight_update");
        foreach (var part in tensors.Chunk(tensors.Length / 2 + 1))
        {
            var update = Post(server, "/update_weights", Update(part, "bfloat16"));
            await Task.Run(() => SendPacked(group, weights, part, 3000), Token);
            await update;
        }
        await Post(server, "/finish_weight_update", "{\"weight_version\":\"7\"}");
        await Post(server, "/reset_prefix_cache");
        await Post(server, "/resume");
        Assert.Equal(
            "weights-7",
            (await server.CompleteAsync("\"prompt\":\"a\"")).GetProperty("system_fingerprint").GetString()
        );
        float[] sent = Values(weights),
            live = Values(server.Source.Weights);
        for (int i = 0; i < sent.Length; i++)
            Assert.Equal(BFloat(sent[i]) << 16, BitConverter.SingleToUInt32Bits(live[i]));
    }

    private static unsafe float[] Values(FlatWeights weights) =>
        new ReadOnlySpan<float>((void*)weights.Pointer, (int)weights.Layout.Length).ToArray();

    private static uint BFloat(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16; // to the nearest, ties to even
    }

    /// <summary>
    /// vLLM's packing, written down here once more from its description: a piece ends with the tensor that makes it
    /// larger than the buffer.
    /// </summary>
    private static unsafe void SendPacked(
        IWeightGroup group,
        FlatWeights weights,
        IEnumerable<CheckpointTensor> tensors,
        int bufferBytes
    )
    {
        var values = Values(weights);
        var piece = new List<ushort>();
        void Flush()
        {
            if (piece.Count == 0)
                return;
            fixed (ushort* bytes = piece.ToArray())
                group.Broadcast((nint)bytes, 2 * piece.Count);
            piece.Clear();
        }
        foreach (var tensor in tensors)
        {
            for (long i = 0; i < tensor.Length; i++)
                piece.Add((ushort)BFloat(values[tensor.Offset + i]));
            if (2 * piece.Count > bufferBytes)
                Flush();
        }
        Flush();
    }

    [Fact]
    public async Task Trainer_that_dies_half_way_leaves_nothing_that_is_sampled_from()
    {
        await using var server = await StartAsync();
        using var collectives = new TcpCollectives();
        using var weights = NewWeights(server);
        await DieHalfWayAsync(server, collectives, weights);
        var (status, message, _, _) = await server.FailAsync("/resume", "{}");
        Assert.Equal(409, status);
        Assert.Contains("failed half-way", message);
        Assert.Equal(409, (await server.FailAsync("/finish_weight_update", "{}")).Status);
        var waiting = server.CompleteAsync("\"prompt\":\"a\",\"max_tokens\":3");
        Assert.True((await GetAsync(server, "/is_paused")).GetProperty("is_paused").GetBoolean());
        // A whole update by another trainer makes it good.
        using var trainer = new VllmConnection(new(server.Server.Address), collectives, Patience);
        await trainer.JoinAsync(IPAddress.Loopback, Token);
        Assert.False(waiting.IsCompleted);
        await trainer.PushWeightsAsync(weights, 4, Token);
        Assert.Equal(
            "weights-4",
            (await waiting.WaitAsync(Patience, Token)).GetProperty("system_fingerprint").GetString()
        );
        Assert.Equal(Hash(weights), Hash(server.Source.Weights));
    }

    /// <summary>A trainer that announces two tensors, sends one and is gone.</summary>
    private static async Task DieHalfWayAsync(TestServer server, TcpCollectives collectives, FlatWeights weights)
    {
        byte[] id = collectives.NewId();
        var join = Task.Run(() => collectives.Join(id, 0, 2, Patience), Token);
        await Post(server, "/init_weight_transfer_engine", Init(id));
        var group = await join;
        var first = weights.Layout.CheckpointTensors[0];
        await Post(server, "/start_weight_update");
        string two = Update(weights.Layout.CheckpointTensors.Take(2), "float32");
        var update = server.FailAsync("/update_weights", two);
        group.Broadcast(weights.Pointer + (nint)(4 * first.Offset), 4 * first.Length);
        group.Dispose(); // before the second
        Assert.Equal(502, (await update).Status);
    }

    [Fact]
    public async Task Several_servers_complete_each_sample_once_with_the_weights_sent()
    {
        await using var first = await StartAsync();
        await using var second = await StartAsync();
        using var workers = await VllmWorkers.StartAsync(new([first.Server.Address, second.Server.Address]), Token);
        using var weights = NewWeights(first);
        var report = await workers.PushWeightsAsync(weights, 3, Token);
        Assert.Equal(
            (3, Hash(weights), weights.ByteLength, "vllm, tcp"),
            (report.Version, report.Hash, report.Bytes, report.Transport)
        );
        GenerationRequest[] requests = [.. Enumerable.Range(0, 20).Select(Numbered)];
        var completions = await CompletionsAsync(workers, requests);
        Assert.Equal(40, completions.DistinctBy(c => (c.RequestId, c.SampleIndex)).Count());
        Assert.Equal(40, completions.Count);
        Assert.All(completions, c => Assert.All(c.WeightVersions, v => Assert.Equal(3, v)));
        Assert.True(first.Source.Statistics.FinishedSequences > 0 && second.Source.Statistics.FinishedSequences > 0);
        await foreach (var e in first.Source.StreamAsync(requests[7], Token)) // on each server the seed decides
            if (e.Completion is { } own)
                Assert.Equal(
                    own.Tokens,
                    completions.Single(c => c.RequestId == "r7" && c.SampleIndex == own.SampleIndex).Tokens
                );
        var refused = await Assert.ThrowsAsync<ArgumentException>(() =>
            CompletionsAsync(workers, [Request with { PromptTokens = new int[5000] }])
        );
        Assert.Contains("4095 tokens", refused.Message);
    }

    private static GenerationRequest Numbered(int number) =>
        Request with
        {
            Id = $"r{number}",
            Sampling = Request.Sampling with { Seed = ulong.MaxValue - (ulong)number },
        };

    private static async Task<List<Completion>> CompletionsAsync(VllmWorkers workers, GenerationRequest[] requests)
    {
        var completions = new List<Completion>();
        await foreach (var completion in workers.GenerateAsync(requests, NeverEnough.Token, Token))
            completions.Add(completion);
        return completions;
    }

    [Fact]
    public async Task Server_of_vLLM_needs_a_gpu_to_send_from_and_the_error_says_so()
    {
        await using var server = new VllmStandIn(workers: 1, gpu: null);
        var refused = await Assert.ThrowsAsync<NotSupportedException>(() =>
            VllmWorkers.StartAsync(new([server.Address]), Token)
        );
        Assert.Contains("Set workers.send_device", refused.Message);
    }

    /// <summary>vLLM's log-probs are by default those of temperature 1, whatever it samples with.</summary>
    [Fact]
    public async Task Server_of_vLLM_samples_at_another_temperature_only_with_processed_log_probs()
    {
        await using var server = new VllmStandIn(workers: 1, gpu: null);
        var servers = new VllmServers([server.Address]) { Temperature = 0.6 };
        var refused = await Assert.ThrowsAsync<NotSupportedException>(() => VllmWorkers.StartAsync(servers, Token));
        Assert.Contains("rollout.temperature is 0.6", refused.Message);
        Assert.Contains("workers.processed_logprobs", refused.Message);

        // With them only the missing GPU is left to complain about; servers of ours need nothing
        var processed = servers with
        {
            ProcessedLogProbs = true,
        };
        refused = await Assert.ThrowsAsync<NotSupportedException>(() => VllmWorkers.StartAsync(processed, Token));
        Assert.Contains("Set workers.send_device", refused.Message);
        await using var ours = await StartAsync();
        using var workers = await VllmWorkers.StartAsync(servers with { Addresses = [ours.Server.Address] }, Token);
    }

    [Fact]
    public async Task Tensors_of_another_model_are_all_named_and_change_nothing()
    {
        await using var server = await StartAsync();
        using var collectives = new TcpCollectives();
        using var trainer = new VllmConnection(new(server.Server.Address), collectives, Patience);
        await trainer.JoinAsync(IPAddress.Loopback, Token);
        ulong before = Hash(server.Source.Weights);
        using var other = TinyModels.Random(TinyModels.Config(ModelFamily.Llama));
        var refused = await Assert.ThrowsAsync<HttpRequestException>(() => trainer.PushWeightsAsync(other, 1, Token));
        Assert.Contains("expected shape [261, 24], found [61, 24]", refused.Message);
        Assert.Equal(before, Hash(server.Source.Weights));
    }

    [Fact]
    public void Packed_streams_are_cut_as_vLLM_cuts_them()
    {
        Assert.Equal([3, 1, 1], UpdateInfo.Cut([4, 4, 4, 100, 1], 10));
        Assert.Equal([2], UpdateInfo.Cut([5, 5], 10)); // equal to the buffer is not more
        Assert.Equal([], UpdateInfo.Cut([], 10));
    }

    internal static async Task<JsonElement> GetAsync(TestServer server, string path) =>
        JsonDocument.Parse(await server.Client.GetStringAsync(path, Token)).RootElement;
}
