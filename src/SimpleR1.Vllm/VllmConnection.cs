using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Vllm;

/// <summary>
/// A server that speaks vLLM's API, as a worker of a trainer: prompts in as token ids, completions out with their log-probs, weights by vLLM's
/// transfer protocol. The trainer is rank 0 of the group that the server's workers join.
/// </summary>
/// <remarks>docs/vllm.md says which servers it was tested with.</remarks>
public sealed class VllmConnection : IDisposable
{
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10);

    private readonly HttpClient http;
    private readonly ICollectives tcp;
    private readonly ICollectives? nccl;
    private readonly TimeSpan timeout;
    private readonly bool keyed;
    private IWeightGroup? group;

    /// <param name="address">http://host:port, or vllm://host:port for the same.</param>
    /// <param name="key">Its bearer key; null where it wants none.</param>
    /// <param name="tcp">With the cluster key, where there is one.</param>
    /// <param name="timeout">For each call, and for a transfer to make progress.</param>
    /// <param name="clusterKey">The address is the admin port of a server of ours with this key: each connection proves it, at both ends.</param>
    /// <param name="nccl">The GPU to send from; null sends by TCP, which vLLM itself does not take.</param>
    public VllmConnection(
        Uri address,
        string? key,
        TcpCollectives tcp,
        TimeSpan timeout,
        ClusterKey? clusterKey = null,
        NcclCollectives? nccl = null
    )
    {
        var web = address.Scheme == "vllm" ? new UriBuilder(address) { Scheme = "http" }.Uri : address;
        (Address, this.tcp, this.nccl, this.timeout, keyed) = (
            clusterKey is null ? web : address,
            tcp,
            nccl,
            timeout,
            clusterKey is not null
        );
        var handler = new SocketsHttpHandler();
        if (clusterKey is not null)
        {
            handler.UseProxy = false; // has no key
            handler.ConnectCallback = (context, cancellation) =>
                ConnectAsync(context.DnsEndPoint, clusterKey, cancellation);
        }
        http = new(handler) { BaseAddress = web, Timeout = timeout };
        if (key is not null)
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", key);
    }

    public Uri Address { get; }

    /// <summary>How weights travel to it; null before <see cref="JoinAsync"/>.</summary>
    public string? Transport { get; private set; }

    /// <summary>Whether weights are sent from a GPU's memory.</summary>
    public bool FromGpu => group?.Device is not null;

    private static async ValueTask<Stream> ConnectAsync(
        DnsEndPoint server,
        ClusterKey key,
        CancellationToken cancellation
    )
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(HandshakeTimeout);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(server, deadline.Token);
            return await key.SecureOpenedAsync(new NetworkStream(socket, ownsSocket: true), deadline.Token);
        }
        catch (Exception e)
        {
            socket.Dispose();
            throw e switch
            {
                AuthenticationException or IOException => new IOException(
                    "It did not prove that it has this cluster's key: give both the same --key and name its admin port; http:// instead of vllm:// is for a server without a key",
                    e
                ),
                OperationCanceledException when !cancellation.IsCancellationRequested => new IOException(
                    $"It did not connect and prove that it has the cluster key in {HandshakeTimeout.TotalSeconds:0} s",
                    e
                ),
                _ => e,
            };
        }
    }

    /// <summary>Forms the group that weights are sent in: call it once, before the first <see cref="PushWeightsAsync"/>.</summary>
    /// <param name="here">Where this process can be reached by the server; 127.0.0.1 where both are on one machine.</param>
    /// <exception cref="NotSupportedException">The server receives weights by NCCL only, and there is no GPU to send from.</exception>
    /// <exception cref="TimeoutException">Its workers did not join.</exception>
    /// <exception cref="HttpRequestException">It refuses; says why.</exception>
    public async Task JoinAsync(IPAddress here, CancellationToken cancellation = default)
    {
        var models = await GetAsync("/v1/models", cancellation);
        bool ours =
            models.GetProperty("data")[0].TryGetProperty("owned_by", out var owner) && owner.GetString() == "simple-r1";
        if (nccl is null && !ours)
            throw new NotSupportedException(
                $"{Address} is a vLLM server, which receives weights by NCCL only; this trainer has its weights in the CPU's memory. Set workers.send_device to a GPU of this machine to send them from (cuda or cuda:N, another than the server's), "
                    + "or use workers of simple-r1, or its server (simple-r1 serve --weight-updates)"
            );
        var world = await GetAsync("/get_world_size", cancellation);
        int workers = world.GetProperty("world_size").GetInt32();
        bool takesNccl =
            !ours
            || world.TryGetProperty("weights_by", out var ways)
                && ways.EnumerateArray().Any(way => way.GetString() == "nccl");
        var collectives = takesNccl && nccl is not null ? nccl : tcp;
        // A store is in the clear. With a key the group's id goes by the connection that has proven it, and nobody needs a store.
        using var store = keyed ? null : new TcpStoreServer(new(here, 0));
        byte[] id = keyed ? collectives.NewId() : [];
        var init = store is null
            ? new InitInfo(null, null, 1, workers + 1, Convert.ToBase64String(id))
            : new InitInfo(here.ToString(), store.Port, 1, workers + 1);
        var lead = Task.Run(
            () =>
                store is null
                    ? collectives.Join(id, 0, workers + 1, timeout)
                    : StatelessGroup.Lead(store, collectives, workers + 1, timeout),
            cancellation
        );
        var follow = PostAsync("/init_weight_transfer_engine", new { init_info = init }, cancellation);
        await Task.WhenAny(lead, follow);
        if (follow.IsFaulted)
            await follow; // its reason is better than that it did not come
        group = await lead;
        Transport = collectives.Name;
        await follow;
    }

    /// <summary>Sends all weights, between two steps of the server's engine. Requests that run there go on with them afterwards.</summary>
    /// <param name="source">f32 on the CPU, or in any type on the GPU that they are sent from (<see cref="FromGpu"/>): the server converts them to its own. Must not change before this returns.</param>
    /// <exception cref="InvalidOperationException">No group was formed.</exception>
    public async Task PushWeightsAsync(FlatWeights source, int version, CancellationToken cancellation = default)
    {
        if (group is not { } joined)
            throw new InvalidOperationException($"call {nameof(JoinAsync)} before the first push");
        if ((source.Device is null) != (joined.Device is null))
            throw new ArgumentException(
                $"weights for {Address} are sent by {Transport}, from {(joined.Device is null ? "the CPU's" : "a GPU's")} memory",
                nameof(source)
            );
        await PostAsync("/pause?mode=keep", null, cancellation);
        await PostAsync("/start_weight_update", new { }, cancellation);
        var update = PostAsync("/update_weights", new { update_info = UpdateInfo.Of(source) }, cancellation);
        var send = Task.Run(
            () =>
            {
                int size = (int)source.Flat.element_size();
                foreach (var tensor in source.Layout.CheckpointTensors)
                    joined.Broadcast(source.Pointer + (nint)(size * tensor.Offset), size * tensor.Length);
            },
            cancellation
        );
        await Task.WhenAny(update, send);
        if (update.IsFaulted || send.IsFaulted)
        {
            joined.Dispose(); // nobody takes what is being sent, or sends what is waited for
            group = null;
            try
            {
                await send;
            } // reads the weights until then
            catch (Exception e)
                when (update.IsFaulted && e is IOException or ObjectDisposedException or TimeoutException) { }
        }
        else
            await send;
        await update;
        await PostAsync(
            "/finish_weight_update",
            new { weight_version = version.ToString(CultureInfo.InvariantCulture) },
            cancellation
        );
        await PostAsync("/reset_prefix_cache", null, cancellation);
        await PostAsync("/resume", null, cancellation);
    }

    /// <summary>Completes a request: token ids in, token ids and log-probs out.</summary>
    /// <exception cref="HttpRequestException">The server refuses; says why.</exception>
    public async Task<IReadOnlyList<Completion>> GenerateAsync(
        GenerationRequest request,
        CancellationToken cancellation = default
    )
    {
        var s = request.Sampling;
        var answer = await PostAsync(
            "/v1/completions",
            new
            {
                prompt = request.PromptTokens,
                n = s.Samples,
                max_tokens = s.MaxTokens,
                min_tokens = s.MinTokens,
                temperature = s.Temperature,
                top_p = s.TopP,
                top_k = s.TopK == 0 ? -1 : s.TopK,
                min_p = s.MinP,
                presence_penalty = s.PresencePenalty,
                frequency_penalty = s.FrequencyPenalty,
                repetition_penalty = s.RepetitionPenalty,
                seed = unchecked((long)s.Seed),
                stop = s.StopStrings,
                stop_token_ids = s.StopTokenIds,
                include_stop_str_in_output = s.IncludeStopString,
                ignore_eos = s.IgnoreEos,
                logprobs = 0,
                return_token_ids = true,
            },
            cancellation
        );
        int version =
            answer.TryGetProperty("system_fingerprint", out var print)
            && print.GetString() is { } text
            && text.StartsWith("weights-", StringComparison.Ordinal)
                ? int.Parse(text["weights-".Length..], CultureInfo.InvariantCulture)
                : -1;
        return
        [
            .. answer
                .GetProperty("choices")
                .EnumerateArray()
                .Select((choice, i) => Completion(request, choice, i, version)),
        ];
    }

    private static Completion Completion(GenerationRequest request, JsonElement choice, int index, int version)
    {
        int[] tokens = [.. choice.GetProperty("token_ids").EnumerateArray().Select(t => t.GetInt32())];
        return new()
        {
            RequestId = request.Id,
            SampleIndex = index,
            Tokens = tokens,
            Text = choice.GetProperty("text").GetString()!,
            LogProbs =
            [
                .. choice
                    .GetProperty("logprobs")
                    .GetProperty("token_logprobs")
                    .EnumerateArray()
                    .Select(l => l.GetSingle()),
            ],
            WeightVersions = [.. Enumerable.Repeat(version, tokens.Length)],
            FinishReason = choice.GetProperty("finish_reason").GetString() switch
            {
                "stop" => FinishReason.Stop,
                "length" => FinishReason.Length,
                _ => FinishReason.Aborted,
            },
        };
    }

    private async Task<JsonElement> GetAsync(string path, CancellationToken cancellation)
    {
        HttpResponseMessage response;
        try
        {
            response = await http.GetAsync(path, cancellation);
        }
        catch (HttpRequestException e) when (!keyed && e.InnerException is not SocketException) // connected, but no HTTP came back
        {
            throw new HttpRequestException(
                $"{e.Message} If {Address} is the admin port of a server with a cluster key, give the same --key here",
                e
            );
        }
        using (response)
            return await ReadAsync(path, response, cancellation);
    }

    private async Task<JsonElement> PostAsync(string path, object? body, CancellationToken cancellation)
    {
        using var content = body is null ? null : JsonContent.Create(body);
        if (content is not null)
            await content.LoadIntoBufferAsync(cancellation); // with a length: some servers want one
        using var response = await http.PostAsync(path, content, cancellation);
        return await ReadAsync(path, response, cancellation);
    }

    private async Task<JsonElement> ReadAsync(string path, HttpResponseMessage response, CancellationToken cancellation)
    {
        string text = await response.Content.ReadAsStringAsync(cancellation);
        if (!response.IsSuccessStatusCode)
            throw new HttpRequestException(
                $"{Address} answers {(int)response.StatusCode} to {path}: {text[..Math.Min(1000, text.Length)]}",
                null,
                response.StatusCode
            );
        try
        {
            return JsonSerializer.Deserialize<JsonElement>(text.Length == 0 ? "{}" : text);
        }
        catch (JsonException e)
        {
            throw new HttpRequestException(
                $"{Address} answers {path} with something else than JSON: {text[..Math.Min(200, text.Length)]}",
                e
            );
        }
    }

    public void Dispose()
    {
        group?.Dispose();
        http.Dispose();
    }
}
