using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Vllm.Collectives;
using SimpleR1.Vllm.Rendezvous;

namespace SimpleR1.Tests.Vllm;

/// <summary>
/// The part of a vLLM server that a trainer's weights meet, written from its source: paths, fields (an unknown one is an
/// error there too), a group that is formed by a TCPStore, and a broadcast for each tensor. It loads nothing: it keeps
/// the bytes that its workers receive.
/// </summary>
internal sealed class VllmStandIn : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly HttpListener listener = new();
    private readonly CudaDevice?[] gpus;
    private readonly IWeightGroup?[] groups;
    private readonly Task serving;

    /// <param name="gpu">The GPU of all workers; null where no group is to form.</param>
    public VllmStandIn(int workers, CudaDevice? gpu)
    {
        using (var free = new TcpListener(IPAddress.Loopback, 0))
        {
            free.Start();
            Address = new($"http://127.0.0.1:{((IPEndPoint)free.LocalEndpoint).Port}/");
        }
        gpus = [.. Enumerable.Range(0, workers).Select(_ => gpu?.WithOwnStream())];
        groups = new IWeightGroup?[workers];
        Held = [.. Enumerable.Range(0, workers).Select(_ => new Dictionary<string, byte[]>())];
        listener.Prefixes.Add(Address.ToString());
        listener.Start();
        serving = ServeAsync();
    }

    public Uri Address { get; }

    /// <summary>By worker and tensor.</summary>
    public Dictionary<string, byte[]>[] Held { get; }

    private async Task ServeAsync()
    {
        while (true)
        {
            HttpListenerContext context;
            try
            {
                context = await listener.GetContextAsync();
            }
            catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
            {
                return;
            }
            _ = Task.Run(() => AnswerAsync(context));
        }
    }

    private async Task AnswerAsync(HttpListenerContext context)
    {
        string answer;
        try
        {
            using var reader = new StreamReader(context.Request.InputStream);
            string text = await reader.ReadToEndAsync();
            answer = Answer(
                context.Request.Url!.AbsolutePath,
                text.Length == 0 ? default : JsonDocument.Parse(text).RootElement
            );
        }
        catch (Exception e)
        {
            context.Response.StatusCode = 500;
            answer = JsonSerializer.Serialize(new { error = e.Message });
        }
        await using var output = new StreamWriter(context.Response.OutputStream);
        await output.WriteAsync(answer);
    }

    private string Answer(string path, JsonElement body)
    {
        switch (path)
        {
            case "/v1/models":
                return "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"owned_by\":\"vllm\"}]}";
            case "/get_world_size":
                return $"{{\"world_size\":{gpus.Length}}}";
            case "/init_weight_transfer_engine":
                var init = Fields(
                    body.GetProperty("init_info"),
                    "master_address",
                    "master_port",
                    "rank_offset",
                    "world_size"
                );
                Parallel(worker =>
                    groups[worker] = new NcclCollectives(gpus[worker]!).Join(
                        StatelessGroup.ReadId(
                            init["master_address"].GetString()!,
                            init["master_port"].GetInt32(),
                            Patience
                        ),
                        init["rank_offset"].GetInt32() + worker,
                        init["world_size"].GetInt32(),
                        Patience
                    )
                );
                return "{}";
            case "/update_weights":
                var update = Fields(body.GetProperty("update_info"), "names", "dtype_names", "shapes");
                Parallel(worker => Receive(worker, update));
                return "{}";
            case "/pause" or "/start_weight_update" or "/finish_weight_update" or "/reset_prefix_cache" or "/resume":
                return "";
            default:
                throw new InvalidOperationException($"there is no {path}");
        }
    }

    private static Dictionary<string, JsonElement> Fields(JsonElement body, params string[] known)
    {
        var fields = body.EnumerateObject().ToDictionary(p => p.Name, p => p.Value);
        return fields.Keys.FirstOrDefault(name => !known.Contains(name)) is { } unknown
            ? throw new ArgumentException($"got an unexpected keyword argument '{unknown}'")
            : fields;
    }

    private void Receive(int worker, Dictionary<string, JsonElement> update)
    {
        for (int i = 0; i < update["names"].GetArrayLength(); i++)
        {
            long bytes = update["shapes"]
                [i]
                .EnumerateArray()
                .Aggregate(update["dtype_names"][i].GetString() == "float32" ? 4L : 2, (a, b) => a * b.GetInt64());
            using var memory = gpus[worker]!.Allocate(bytes, "a test");
            groups[worker]!.Broadcast(memory.Pointer, bytes);
            Held[worker][update["names"][i].GetString()!] = gpus[worker]!.Read<byte>(memory.Pointer, (int)bytes);
        }
    }

    private void Parallel(Action<int> work) =>
        Task.WaitAll([.. gpus.Select((_, worker) => Task.Run(() => work(worker)))]);

    public async ValueTask DisposeAsync()
    {
        listener.Close();
        await serving;
        foreach (var group in groups)
            group?.Dispose();
    }
}
