using System.Globalization;
using System.Net;
using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Vllm.Collectives;
using SimpleR1.Vllm.Rendezvous;

namespace SimpleR1.Vllm;

/// <summary>
/// The trainer's connection to a server that speaks vLLM's API: prompts go in as token ids, completions come out with
/// their log-probs, weights go in by vLLM's transfer protocol. The trainer is rank 0 of the group that the server's
/// workers join.
/// </summary>
/// <param name="endpoint">The server.</param>
/// <param name="tcp">With the cluster key, where there is one.</param>
/// <param name="timeout">Deadline of each call, and longest time that a transfer makes no progress.</param>
/// <param name="nccl">Sends from a GPU; null sends by TCP, which vLLM itself does not take.</param>
/// <remarks>docs/vllm.md names the servers that this class was tested with.</remarks>
public sealed class VllmConnection(VllmEndpoint endpoint, ICollectives tcp, TimeSpan timeout, ICollectives? nccl = null)
    : IDisposable
{
    private readonly VllmHttp http = new(endpoint, timeout);
    private IWeightGroup? group;

    /// <summary>The server's address, for people.</summary>
    public Uri Address => endpoint.Shown;

    /// <summary>Why a server that is not simple-r1's must not be used; null when it may.</summary>
    public string? ForeignRefusal { get; init; }

    /// <summary>How weights travel to the server; null before <see cref="JoinAsync"/>.</summary>
    public string? Transport { get; private set; }

    /// <summary>Whether weights are sent from a GPU's memory.</summary>
    public bool FromGpu => group?.Device is not null;

    /// <summary>
    /// Forms the group that weights are sent in: call it once, before the first <see cref="PushWeightsAsync"/>.
    /// </summary>
    /// <param name="here">
    /// The address at which the server can reach this process; 127.0.0.1 where both are on one machine.
    /// </param>
    /// <exception cref="NotSupportedException">
    /// The server receives weights by NCCL only, and there is no GPU to send from; or <see cref="ForeignRefusal"/>.
    /// </exception>
    /// <exception cref="TimeoutException">The server's workers did not join.</exception>
    /// <exception cref="HttpRequestException">The server refuses; the message quotes its reason.</exception>
    public async Task JoinAsync(IPAddress here, CancellationToken cancellation = default)
    {
        // Find out what the server is, and choose how to send.
        bool ours = await IsOursAsync(cancellation);
        if (!ours && ForeignRefusal is { } refusal)
            throw new NotSupportedException($"{Address} is a vLLM server: {refusal}");
        if (nccl is null && !ours)
            throw new NotSupportedException(
                $"{Address} is a vLLM server, which receives weights by NCCL only; "
                    + "this trainer has its weights in the CPU's memory. Set workers.send_device to a GPU of this machine "
                    + "to send them from (cuda or cuda:N, another than the server's), "
                    + "or use workers of simple-r1, or its server (simple-r1 serve --weight-updates)"
            );
        var world = await http.GetAsync("/get_world_size", cancellation);
        int size = 1 + world.GetProperty("world_size").GetInt32();
        var collectives = nccl is not null && (!ours || TakesNccl(world)) ? nccl : tcp;

        group = await FormAsync(collectives, here, size, cancellation);
        Transport = collectives.Name;
    }

    private async Task<bool> IsOursAsync(CancellationToken cancellation)
    {
        var models = await http.GetAsync("/v1/models", cancellation);
        var model = models.GetProperty("data")[0];
        return model.TryGetProperty("owned_by", out var owner) && owner.GetString() == "simple-r1";
    }

    private static bool TakesNccl(JsonElement world) =>
        world.TryGetProperty("weights_by", out var ways) && ways.EnumerateArray().Any(way => way.GetString() == "nccl");

    private async Task<IWeightGroup> FormAsync(
        ICollectives collectives,
        IPAddress here,
        int size,
        CancellationToken cancellation
    )
    {
        // A store sends in the clear. With a key, the group's id goes by the connection that has proven it,
        // and no store is needed.
        using var store = endpoint.ClusterKey is null ? new TcpStoreServer(new(here, 0)) : null;
        byte[] id = store is null ? collectives.NewId() : [];
        var init = store is null
            ? new InitInfo(null, null, 1, size, Convert.ToBase64String(id))
            : new InitInfo(here.ToString(), store.Port, 1, size);

        // Lead the group while the server joins it.
        var lead = Task.Run(
            () =>
                store is null
                    ? collectives.Join(id, 0, size, timeout)
                    : StatelessGroup.Lead(store, collectives, size, timeout),
            cancellation
        );
        var follow = http.PostAsync("/init_weight_transfer_engine", new { init_info = init }, cancellation);
        await Task.WhenAny(lead, follow);
        if (follow.IsFaulted)
            await follow; // its reason is better than "did not join"
        var formed = await lead;
        try
        {
            await follow;
            return formed;
        }
        catch
        {
            formed.Dispose();
            throw;
        }
    }

    /// <summary>
    /// Sends all weights, between two steps of the server's engine. Its running requests continue with them afterwards.
    /// </summary>
    /// <param name="source">
    /// f32 on the CPU, or any type on the GPU that weights are sent from (<see cref="FromGpu"/>); the server converts
    /// them to its own type. They must not change before this returns.
    /// </param>
    /// <exception cref="InvalidOperationException">No group was formed.</exception>
    public async Task PushWeightsAsync(FlatWeights source, int version, CancellationToken cancellation = default)
    {
        if (group is null)
            throw new InvalidOperationException($"call {nameof(JoinAsync)} before the first push");
        if ((source.Device is null) != (group.Device is null))
        {
            string memory = group.Device is null ? "the CPU's memory" : "a GPU's memory";
            throw new ArgumentException(
                $"weights for {Address} are sent by {Transport}, from {memory}",
                nameof(source)
            );
        }

        Task PostAsync(string path, object? body = null) => http.PostAsync(path, body, cancellation);
        await PostAsync("/pause?mode=keep");
        await PostAsync("/start_weight_update", new { });
        await SendAsync(group, source, cancellation);
        string text = version.ToString(CultureInfo.InvariantCulture);
        await PostAsync("/finish_weight_update", new { weight_version = text });
        await PostAsync("/reset_prefix_cache");
        await PostAsync("/resume");
    }

    private async Task SendAsync(IWeightGroup joined, FlatWeights source, CancellationToken cancellation)
    {
        var update = http.PostAsync("/update_weights", new { update_info = UpdateInfo.Of(source) }, cancellation);
        var send = Task.Run(() => Broadcast(joined, source), cancellation);
        await Task.WhenAny(update, send);
        if (update.IsFaulted || send.IsFaulted)
        {
            // Either end would wait for the other, which has given up.
            joined.Dispose();
            group = null;
            try
            {
                await send; // reads the weights until then
            }
            catch (Exception e) when (update.IsFaulted && IsEndOfGroup(e))
            {
                // the server's reason is the one to report
            }
        }
        else
            await send;
        await update;
    }

    private static bool IsEndOfGroup(Exception e) => e is IOException or ObjectDisposedException or TimeoutException;

    private static void Broadcast(IWeightGroup joined, FlatWeights source)
    {
        int size = (int)source.Flat.element_size();
        foreach (var tensor in source.Layout.CheckpointTensors)
            joined.Broadcast(source.Pointer + (nint)(size * tensor.Offset), size * tensor.Length);
    }

    /// <summary>Completes a request: token ids in, token ids and log-probs out.</summary>
    /// <exception cref="HttpRequestException">The server refuses; the message quotes its reason.</exception>
    public async Task<IReadOnlyList<Completion>> GenerateAsync(
        GenerationRequest request,
        CancellationToken cancellation = default
    )
    {
        var answer = await http.PostAsync("/v1/completions", VllmCompletions.Body(request), cancellation);
        return VllmCompletions.Read(request, answer);
    }

    public void Dispose()
    {
        group?.Dispose();
        http.Dispose();
    }
}
