using System.Net;
using SimpleR1.Inference;
using SimpleR1.Server;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Tensors.Cuda.Libraries;
using SimpleR1.Tests.Cli;
using SimpleR1.Tests.Server;
using SimpleR1.Tests.Vllm;
using SimpleR1.Vllm;
using SimpleR1.WeightSync.Security;
using Xunit;
using static TorchSharp.torch;

namespace SimpleR1.Tests.Gpu;

public sealed partial class GpuWeightTransferTests
{
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
            Assert.Contains("NCCL moves the weights between the GPUs in the clear", serving.Errors);
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
            Assert.Contains("that NCCL sends to servers on GPUs: they travel in the clear", output);
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
