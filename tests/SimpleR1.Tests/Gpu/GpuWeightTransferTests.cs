using System.Diagnostics;
using System.Net;
using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Server;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.Tests.Cli;
using SimpleR1.Tests.Server;
using SimpleR1.Tests.Vllm;
using SimpleR1.Vllm;
using SimpleR1.Vllm.Collectives;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync.Security;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

/// <summary>
/// vLLM's weight transfer between GPUs, from both sides, with the stand-in for NCCL: see <see cref="NcclTests"/>.
/// </summary>
[Collection("GPU"), Trait("Category", "Gpu")]
public sealed class GpuWeightTransferTests
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
    ) =>
        server.PostAsync(
            "/update_weights",
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
            )
        );

    private static void Send(CudaDevice gpu, IWeightGroup group, byte[] bytes)
    {
        using var memory = gpu.Allocate(bytes.Length, "a test");
        gpu.Write<byte>(memory.Pointer, bytes);
        group.Broadcast(memory.Pointer, bytes.Length);
    }

    /// <summary>
    /// A trainer as others write them: tensors in another order, in two updates, the tied output matrix among them,
    /// packed with a small buffer or one by one.
    /// </summary>
    [Theory]
    [
        InlineData(ScalarType.BFloat16, ScalarType.BFloat16, false, true),
        InlineData(ScalarType.BFloat16, ScalarType.Float32, false, false)
    ]
    [
        InlineData(ScalarType.BFloat16, ScalarType.BFloat16, true, false),
        InlineData(ScalarType.BFloat16, ScalarType.Float32, true, true)
    ]
    [
        InlineData(ScalarType.Float16, ScalarType.BFloat16, true, true),
        InlineData(ScalarType.Float32, ScalarType.Float16, false, false)
    ]
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
        (string Name, long[] Shape, float[] Values)[] tensors =
        [
            .. weights
                .Layout.CheckpointTensors.Reverse()
                .Select(t => (t.Name, t.Shape, values[(int)t.Offset..(int)(t.Offset + t.Length)])),
        ];
        tensors =
        [
            tensors[0],
            ("lm_head.weight", weights.Layout.CheckpointTensors[0].Shape, new float[264 * 32]),
            .. tensors[1..],
        ];
        await server.PostAsync("/pause?mode=abort", "{}");
        await server.PostAsync("/start_weight_update", "{}");
        foreach (var part in tensors.Chunk(tensors.Length / 2 + 1))
        {
            var update = UpdateAsync(server, [.. part.Select(t => (t.Name, t.Shape))], wire);
            await Task.Run(
                () =>
                {
                    var piece = new List<byte>();
                    foreach (var tensor in part)
                    {
                        piece.AddRange(Bytes(tensor.Values, wire));
                        if (packed && piece.Count <= 3000)
                            continue;
                        Send(here, group, [.. piece]);
                        piece.Clear();
                    }
                    if (piece.Count > 0)
                        Send(here, group, [.. piece]);
                },
                Token
            );
            await update;
        }
        await server.PostAsync("/finish_weight_update", "{\"weight_version\":\"7\"}");
        await server.PostAsync("/resume", "{}");
        Assert.Equal(expected, await LiveAsync(server));
        await AssertSamplesAsync(server, samples, 7);
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
            await server.PostAsync("/start_weight_update", "{}");
            var two = weights.Layout.CheckpointTensors.Take(2).ToArray();
            var update = server.FailAsync(
                "/update_weights",
                JsonSerializer.Serialize(
                    new
                    {
                        update_info = new
                        {
                            names = two.Select(t => t.Name),
                            dtype_names = (string[])["bfloat16", "bfloat16"],
                            shapes = two.Select(t => t.Shape),
                        },
                    }
                )
            );
            await Task.Run(() => Send(here, group, new byte[2 * two[0].Length]), Token);
            group.Dispose(); // before the second
            var (status, message, _, _) = await update;
            Assert.Equal(502, status);
            Assert.Contains(silent ? "Waited 5 s for a broadcast of" : "NCCL:", message);
        }
        finally
        {
            NcclTests.Set("EMULATED_NCCL_SILENT", null);
        }
        Assert.True(clock.Elapsed < TimeSpan.FromSeconds(20), $"noticed after {clock.Elapsed.TotalSeconds:0.0} s");
        Assert.Contains("failed half-way", (await server.FailAsync("/resume", "{}")).Message);
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

    /// <summary>With a cluster key and without; another server on a CPU gets the weights by TCP.</summary>
    [Theory, InlineData(false), InlineData(true)]
    public async Task Trainer_with_a_gpu_sends_by_nccl_to_servers_on_gpus_and_by_tcp_to_others(bool keyed)
    {
        var gpu = NcclTests.Require();
        var options = keyed ? new HttpOptions { ClusterKey = ClusterKey.Parse(ClusterKey.NewText()) } : new();
        await using var onGpu = await StartAsync(gpu, ScalarType.BFloat16, options);
        await using var onCpu = await TestServer.StartAsync(
            options with
            {
                WeightUpdates = true,
            },
            Engine,
            TinyModels.Random(Config)
        );
        using var workers = await VllmWorkers.StartAsync(
            new([.. new[] { onGpu, onCpu }.Select(s => s.Server.AdminAddress ?? s.Server.Address)])
            {
                ClusterKey = options.ClusterKey,
                SendFrom = gpu,
            },
            Token
        );
        for (int version = 1; version < 3; version++)
        {
            using var weights = TinyModels.Random(Config, 10 + version);
            var report = await workers.PushWeightsAsync(weights, version, Token);
            Assert.Equal($"vllm, nccl and {(keyed ? "tls" : "tcp")}", report.Transport);
            float[] rounded = [.. Values(weights).Select(v => Gpu.Round(v, ScalarType.BFloat16))];
            Assert.Equal(rounded, await LiveAsync(onGpu));
            Assert.Equal(Values(weights), await LiveAsync(onCpu));
            var completions = new List<Completion>();
            await foreach (
                var completion in workers.GenerateAsync(
                    [.. Enumerable.Range(0, 6).Select(i => Request with { Id = $"r{i}" })],
                    NeverEnough.Token,
                    Token
                )
            )
                completions.Add(completion);
            Assert.Equal(12, completions.Count);
            Assert.All(completions, c => Assert.All(c.WeightVersions, v => Assert.Equal(version, v)));
        }
    }

    [Fact]
    public async Task Trainer_without_a_gpu_sends_by_tcp_to_a_server_on_one()
    {
        var gpu = NcclTests.Require();
        using var weights = TinyModels.Random(Config, 5);
        float[] rounded = [.. Values(weights).Select(v => Gpu.Round(v, ScalarType.BFloat16))];
        var samples = await SampleAsync(gpu, rounded, ScalarType.BFloat16);
        await using var server = await StartAsync(gpu, ScalarType.BFloat16);
        using var workers = await VllmWorkers.StartAsync(new([server.Server.Address]), Token);
        Assert.Equal("vllm, tcp", (await workers.PushWeightsAsync(weights, 2, Token)).Transport);
        Assert.Equal(rounded, await LiveAsync(server));
        await AssertSamplesAsync(server, samples, 2);
    }

    [Fact]
    public async Task Refused_tensors_end_the_trainers_broadcast_and_change_nothing()
    {
        var gpu = NcclTests.Require();
        await using var server = await StartAsync(gpu, ScalarType.BFloat16);
        float[] before = await LiveAsync(server);
        using var workers = await VllmWorkers.StartAsync(new([server.Server.Address]) { SendFrom = gpu }, Token);
        using var other = TinyModels.Random(Config with { HiddenSize = 40 });
        var refused = await Assert.ThrowsAsync<IOException>(() =>
            workers.PushWeightsAsync(other, 1, Token).WaitAsync(Patience, Token)
        );
        Assert.Contains("expected shape [264, 32], found [264, 40]", refused.Message);
        Assert.Equal(before, await StandingAsync(server, gpu));
    }

    /// <summary>The engine is paused: nothing else uses its memory.</summary>
    private static Task<float[]> StandingAsync(TestServer server, CudaDevice gpu) =>
        Task.Run(
            () =>
                Gpu.Download(
                    gpu.WithOwnStream(),
                    server.Source.Weights.Pointer,
                    (int)server.Source.Weights.Layout.Length,
                    server.Source.Weights.Flat.dtype
                ),
            Token
        );

    [Theory, InlineData(ScalarType.BFloat16), InlineData(ScalarType.Float32)]
    public async Task Server_as_vLLM_is_with_two_workers_is_sent_the_type_that_was_asked_for(ScalarType type)
    {
        var gpu = NcclTests.Require();
        await using var server = new VllmStandIn(workers: 2, gpu);
        using var workers = await VllmWorkers.StartAsync(
            new([server.Address]) { SendFrom = gpu, SendType = type },
            Token
        );
        for (int version = 1; version < 3; version++)
        {
            using var weights = TinyModels.Random(Config, version);
            Assert.Equal("vllm, nccl", (await workers.PushWeightsAsync(weights, version, Token)).Transport);
            float[] values = Values(weights);
            foreach (var held in server.Held)
            foreach (var tensor in weights.Layout.CheckpointTensors)
                Assert.Equal(
                    Bytes(values[(int)tensor.Offset..(int)(tensor.Offset + tensor.Length)], type),
                    held[tensor.Name]
                );
        }
    }

    private static readonly string[] Serve =
    [
        "serve",
        "recipes/tiny-base",
        "--device",
        "cuda",
        "--port",
        "0",
        "--weight-updates",
        "--kv-cache-mib",
        "16",
        "--max-sequences",
        "8",
        "--max-batched-tokens",
        "64",
        "--max-context",
        "64",
    ];

    private static HttpClient ClientOf(ProgramRun serving) =>
        new() { BaseAddress = new("http://" + serving.Output.Split("http://")[1].Split(' ')[0]), Timeout = Patience };

    private static StringContent Json(string text) => new(text, System.Text.Encoding.UTF8, "application/json");

    [Fact]
    public async Task A_run_with_a_server_on_a_gpu_and_a_cluster_key_goes_by_nccl_and_both_ends_say_that_it_is_in_the_clear()
    {
        NcclTests.Require();
        string key = ClusterKey.NewText(),
            runs = Directory.CreateTempSubdirectory("simple-r1-nccl").FullName;
        try
        {
            using var serving = ProgramRun.Start([.. Serve, "--key", key]);
            await serving.SaysAsync("Ctrl-C stops it");
            Assert.Contains("NCCL moves their bytes between the GPUs in the clear", serving.Errors);
            string admin = "vllm://" + serving.Output.Split("vllm://")[1].Split(' ')[0];
            string[] small =
            [
                "training.steps=1",
                "optimizer.warmup_steps=0",
                "rollout.prompts_per_step=2",
                "rollout.samples_per_prompt=2",
                "rollout.max_new_tokens=8",
                "model.max_context=64",
                "data.evaluation.take=2",
                "algorithm.mini_batches=1",
            ];
            var (code, output, errors) = await ProgramRun.RunAsync([
                "train",
                "recipes/quickstart.yaml",
                "--runs",
                runs,
                "--key",
                key,
                .. small
                    .Append($"workers.servers=[{admin}]")
                    .Append("workers.send_device=cuda")
                    .SelectMany(s => new[] { "--set", s }),
            ]);
            Assert.True(code == 0, output + errors);
            Assert.Contains("NCCL sends them in the clear", output);
            using var client = ClientOf(serving);
            using var answer = await client.PostAsync(
                "/v1/completions",
                Json("{\"prompt\":\"a\",\"max_tokens\":1}"),
                Token
            );
            Assert.Contains("\"weights-1\"", await answer.Content.ReadAsStringAsync(Token));
        }
        finally
        {
            Directory.Delete(runs, recursive: true);
        }
    }

    [Fact]
    public async Task Program_without_nccl_says_how_to_get_it()
    {
        Gpu.Require();
        string[] without = ["env", CudaLibraries.NcclVariable + "=/no/such/folder"];
        using var serving = ProgramRun.StartBy(without, Serve);
        await serving.SaysAsync("Ctrl-C stops it");
        Assert.Contains("weights can be taken by TCP only", serving.Errors);
        Assert.Contains("pip install nvidia-nccl-cu13", serving.Errors);
        using var client = ClientOf(serving);
        using var refused = await client.PostAsync(
            "/init_weight_transfer_engine",
            Json(
                $"{{\"init_info\":{{\"nccl_unique_id_b64\":\"{Convert.ToBase64String(new byte[128])}\","
                    + "\"rank_offset\":1,\"world_size\":2}}"
            ),
            Token
        );
        Assert.Equal(HttpStatusCode.Conflict, refused.StatusCode);
        Assert.Contains("pip install nvidia-nccl-cu13", await refused.Content.ReadAsStringAsync(Token));
        string runs = Directory.CreateTempSubdirectory("simple-r1-nccl").FullName;
        try
        {
            using var training = ProgramRun.StartBy(
                without,
                "train",
                "recipes/quickstart.yaml",
                "--runs",
                runs,
                "--set",
                $"workers.servers=[{client.BaseAddress}]",
                "--set",
                "workers.send_device=cuda"
            );
            Assert.Equal(1, await training.EndAsync());
            Assert.Contains("workers.send_device: weights can't be sent by NCCL", training.Errors);
            Assert.Contains("pip install nvidia-nccl-cu13", training.Errors);
        }
        finally
        {
            Directory.Delete(runs, recursive: true);
        }
    }
}
