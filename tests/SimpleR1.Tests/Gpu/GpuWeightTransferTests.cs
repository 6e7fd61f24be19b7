using System.Diagnostics;
using System.Net;
using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Server;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tests.Server;
using SimpleR1.Vllm;
using SimpleR1.Vllm.Collectives;
using SimpleR1.Vllm.Rendezvous;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>
/// vLLM's weight transfer between GPUs, from both sides, with the stand-in for NCCL: see <see cref="NcclTests"/>.
/// </summary>
[Collection("GPU"), Trait("Category", "Gpu"), Trait("Category", "GpuProcesses")]
public sealed partial class GpuWeightTransferTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static CancellationToken Token => TestContext.Current.CancellationToken;
    private static readonly GenerationRequest Request = new(
        "r",
        [1, 2, 3, 4, 5],
        new()
        {
            MaxTokens = 8,
            Samples = 2,
            Seed = 3,
            IgnoreEos = true,
        }
    );
    private static readonly EngineOptions Engine = new()
    {
        KvCacheBytes = 1 << 20,
        MaxSequences = 8,
        MaxBatchedTokens = 64,
        MaxContext = 64,
    };
    private static ModelConfig Config =>
        TinyModels.Config(vocabulary: 264) with
        {
            HiddenSize = 32,
            IntermediateSize = 48,
            HeadDimension = 16,
            EosTokenIds = [256],
        };

    private static async Task<TestServer> StartAsync(CudaDevice gpu, ScalarType type, HttpOptions? options = null)
    {
        using var cpu = TinyModels.Random(Config);
        return await TestServer.StartAsync(
            (options ?? new()) with
            {
                WeightUpdates = true,
                DrainTimeout = TimeSpan.FromSeconds(5),
            },
            Engine,
            cpu.CopyTo(gpu, type)
        );
    }

    private static unsafe float[] Values(FlatWeights weights) =>
        new ReadOnlySpan<float>((void*)weights.Pointer, (int)weights.Layout.Length).ToArray();

    /// <summary>What a server's engine computes with.</summary>
    private static Task<float[]> LiveAsync(TestServer server) =>
        server.Source.BetweenStepsAsync(engine =>
            engine.Weights.Device is { } gpu
                ? Gpu.Download(
                    gpu,
                    engine.Weights.Pointer,
                    (int)engine.Weights.Layout.Length,
                    engine.Weights.Flat.dtype
                )
                : Values(engine.Weights)
        );

    private static byte[] Bytes(IEnumerable<float> values, ScalarType type) =>
        [
            .. values.SelectMany(v =>
                type switch
                {
                    ScalarType.Float32 => BitConverter.GetBytes(v),
                    ScalarType.Float16 => BitConverter.GetBytes((Half)v),
                    _ => BitConverter.GetBytes((ushort)(BitConverter.SingleToUInt32Bits(Gpu.Round(v, type)) >> 16)),
                }
            ),
        ];

    private static string Named(ScalarType type) =>
        type switch
        {
            ScalarType.Float32 => "float32",
            ScalarType.Float16 => "float16",
            _ => "bfloat16",
        };

    private static Task<JsonElement> UpdateAsync(
        TestServer server,
        IReadOnlyCollection<(string Name, long[] Shape)> tensors,
        ScalarType type
    ) => server.PostAsync("/update_weights", UpdateJson(tensors, type));

    private static string UpdateJson(IReadOnlyCollection<(string Name, long[] Shape)> tensors, ScalarType type) =>
        JsonSerializer.Serialize(
            new
            {
                update_info = new
                {
                    names = tensors.Select(t => t.Name),
                    dtype_names = tensors.Select(_ => Named(type)),
                    shapes = tensors.Select(t => t.Shape),
                },
            }
        );

    private static void Send(CudaDevice gpu, IWeightGroup group, byte[] bytes)
    {
        using var memory = gpu.Allocate(bytes.Length, "a test");
        gpu.Write<byte>(memory.Pointer, bytes);
        group.Broadcast(memory.Pointer, bytes.Length);
    }

    /// <summary>Live type, wire type, packed, by store.</summary>
    public static readonly TheoryData<ScalarType, ScalarType, bool, bool> ForeignTrainers = new()
    {
        { ScalarType.BFloat16, ScalarType.BFloat16, false, true },
        { ScalarType.BFloat16, ScalarType.Float32, false, false },
        { ScalarType.BFloat16, ScalarType.BFloat16, true, false },
        { ScalarType.BFloat16, ScalarType.Float32, true, true },
        { ScalarType.Float16, ScalarType.BFloat16, true, true },
        { ScalarType.Float32, ScalarType.Float16, false, false },
    };

    /// <summary>
    /// A trainer as others write them: tensors in another order, in two updates, the tied output matrix among them,
    /// packed with a small buffer or one by one.
    /// </summary>
    [Theory, MemberData(nameof(ForeignTrainers))]
    public async Task Foreign_trainers_tensors_arrive_rounded_to_nearest_in_the_live_type(
        ScalarType live,
        ScalarType wire,
        bool packed,
        bool byStore
    )
    {
        var gpu = NcclTests.Require();
        using var weights = TinyModels.Random(Config, 99);
        float[] values = Values(weights),
            expected = [.. values.Select(v => Gpu.Round(Gpu.Round(v, wire), live))];
        var samples = await SampleAsync(gpu, expected, live);
        await using var server = await StartAsync(gpu, live);
        var here = gpu.WithOwnStream();
        using var collectives = new NcclCollectives(here);
        using var group = await JoinAsync(server, collectives, packed, byStore);
        var tensors = ForeignTensors(weights, values);
        await server.PostAsync("/pause?mode=abort", "{}");
        await server.PostAsync("/start_weight_update", "{}");
        foreach (var part in tensors.Chunk(tensors.Length / 2 + 1))
        {
            var update = UpdateAsync(server, [.. part.Select(t => (t.Name, t.Shape))], wire);
            await Task.Run(() => SendTensors(here, group, part.Select(t => Bytes(t.Values, wire)), packed), Token);
            await update;
        }
        await server.PostAsync("/finish_weight_update", "{\"weight_version\":\"7\"}");
        await server.PostAsync("/resume", "{}");
        Assert.Equal(expected, await LiveAsync(server));
        await AssertSamplesAsync(server, samples, 7);
    }

    /// <summary>In reverse order, the tied output matrix the second.</summary>
    private static (string Name, long[] Shape, float[] Values)[] ForeignTensors(FlatWeights weights, float[] values)
    {
        (string Name, long[] Shape, float[] Values)[] tensors =
        [
            .. weights
                .Layout.CheckpointTensors.Reverse()
                .Select(t => (t.Name, t.Shape, values[(int)t.Offset..(int)(t.Offset + t.Length)])),
        ];
        return
        [
            tensors[0],
            ("lm_head.weight", weights.Layout.CheckpointTensors[0].Shape, new float[264 * 32]),
            .. tensors[1..],
        ];
    }

    /// <summary>One by one, or packed: a buffer is sent once it has more than 3,000 bytes.</summary>
    private static void SendTensors(CudaDevice gpu, IWeightGroup group, IEnumerable<byte[]> tensors, bool packed)
    {
        var piece = new List<byte>();
        foreach (byte[] tensor in tensors)
        {
            piece.AddRange(tensor);
            if (packed && piece.Count <= 3000)
                continue;
            Send(gpu, group, [.. piece]);
            piece.Clear();
        }
        if (piece.Count > 0)
            Send(gpu, group, [.. piece]);
    }

    private static async Task<IWeightGroup> JoinAsync(
        TestServer server,
        NcclCollectives collectives,
        bool packed,
        bool byStore
    )
    {
        using var store = byStore ? new TcpStoreServer(new(IPAddress.Loopback, 0)) : null;
        byte[] id = byStore ? [] : collectives.NewId();
        var join = Task.Run(
            () =>
                store is null
                    ? collectives.Join(id, 0, 2, Patience)
                    : StatelessGroup.Lead(store, collectives, 2, Patience),
            Token
        );
        string where = store is null
            ? $"\"nccl_unique_id_b64\":\"{Convert.ToBase64String(id)}\""
            : $"\"master_address\":\"127.0.0.1\",\"master_port\":{store.Port}";
        await server.PostAsync(
            "/init_weight_transfer_engine",
            $"{{\"init_info\":{{{where},\"rank_offset\":1,\"world_size\":2,"
                + $"\"packed\":{(packed ? "true" : "false")},\"packed_buffer_size_bytes\":3000}}}}"
        );
        return await join;
    }

    /// <summary>
    /// What an engine samples that has always had these weights. Before a server starts: a device is for one thread
    /// at a time.
    /// </summary>
    private static async Task<List<Completion>> SampleAsync(CudaDevice gpu, float[] values, ScalarType type)
    {
        using var cpu = new FlatWeights(new WeightLayout(Config), ScalarType.Float32, CPU);
        cpu.Flat.copy_(tensor(values));
        await using var source = TestServer.Completions(Engine, weights: cpu.CopyTo(gpu, type));
        var completions = new List<Completion>();
        await foreach (var e in source.StreamAsync(Request, Token))
            if (e.Completion is { } done)
                completions.Add(done);
        return [.. completions.OrderBy(c => c.SampleIndex)];
    }

    private static async Task AssertSamplesAsync(TestServer server, List<Completion> expected, int version)
    {
        using var trainer = new VllmConnection(new(server.Server.Address), new TcpCollectives(), Patience);
        var found = await trainer.GenerateAsync(Request, Token);
        Assert.All(found, c => Assert.All(c.WeightVersions, v => Assert.Equal(version, v)));
        Assert.Equal(expected.Select(c => c.Tokens), found.Select(c => c.Tokens));
        Assert.Equal(expected.Select(c => c.LogProbs), found.Select(c => c.LogProbs));
    }

    [Theory, InlineData(false), InlineData(true)] // an NCCL that notices, and one that waits forever
    public async Task Trainer_that_dies_half_way_is_noticed_in_time_and_another_one_makes_it_good(bool silent)
    {
        var gpu = NcclTests.Require();
        await using var server = await StartAsync(
            gpu,
            ScalarType.BFloat16,
            new() { WeightTimeout = TimeSpan.FromSeconds(5) }
        );
        var here = gpu.WithOwnStream();
        using var collectives = new NcclCollectives(here);
        var group = await JoinAsync(server, collectives, packed: false, byStore: false);
        using var weights = TinyModels.Random(Config, 99);
        var clock = Stopwatch.StartNew();
        if (silent)
            NcclTests.Set("EMULATED_NCCL_SILENT", "1");
        try
        {
            var (status, message) = await DieHalfWayAsync(server, weights, here, group);
            Assert.Equal(502, status);
            Assert.Contains(silent ? "Waited 5 s for a broadcast of" : "NCCL:", message);
        }
        finally
        {
            NcclTests.Set("EMULATED_NCCL_SILENT", null);
        }
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), $"noticed after {clock.Elapsed.TotalSeconds:0.0} s");
        Assert.Contains("failed half-way", (await server.FailAsync("/resume", "{}")).Message);
        await AssertAnotherMakesItGoodAsync(server, gpu, weights);
    }

    /// <summary>A trainer announces two tensors, and is gone after the first. Returns what the server answers.</summary>
    private static async Task<(int Status, string Message)> DieHalfWayAsync(
        TestServer server,
        FlatWeights weights,
        CudaDevice gpu,
        IWeightGroup group
    )
    {
        await server.PostAsync("/start_weight_update", "{}");
        var two = weights.Layout.CheckpointTensors.Take(2).ToArray();
        var update = server.FailAsync(
            "/update_weights",
            UpdateJson([.. two.Select(t => (t.Name, t.Shape))], ScalarType.BFloat16)
        );
        await Task.Run(() => Send(gpu, group, new byte[2 * two[0].Length]), Token);
        group.Dispose(); // before the second
        var (status, message, _, _) = await update;
        return (status, message);
    }

    /// <summary>What waits for weights is answered once another trainer has sent them.</summary>
    private static async Task AssertAnotherMakesItGoodAsync(TestServer server, CudaDevice gpu, FlatWeights weights)
    {
        var waiting = server.CompleteAsync("\"prompt\":\"a\",\"max_tokens\":3");
        using var workers = await VllmWorkers.StartAsync(new([server.Server.Address]) { SendFrom = gpu }, Token);
        Assert.False(waiting.IsCompleted);
        Assert.Equal("vllm, nccl", (await workers.PushWeightsAsync(weights, 4, Token)).Transport);
        Assert.Equal(
            "weights-4",
            (await waiting.WaitAsync(Patience, Token)).GetProperty("system_fingerprint").GetString()
        );
        Assert.Equal(Values(weights).Select(v => Gpu.Round(v, ScalarType.BFloat16)), await LiveAsync(server));
    }
}
