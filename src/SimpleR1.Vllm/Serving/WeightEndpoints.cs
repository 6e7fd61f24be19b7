using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using SimpleR1.Server;
using SimpleR1.Server.Api;
using SimpleR1.Server.Limits;

namespace SimpleR1.Vllm.Serving;

/// <summary>The paths of vLLM's weight transfer (its development mode), with vLLM's answers.</summary>
/// <param name="adminOnly">Answers them only on connections of the admin port.</param>
internal sealed class WeightEndpoints(WeightReceiver receiver, HttpLimits limits, BodyBudget budget, bool adminOnly)
{
    public void Map(IEndpointRouteBuilder routes)
    {
        void Post(string path, RequestDelegate answer) => routes.MapPost(path, Guard(answer));
        void Get(string path, RequestDelegate answer) => routes.MapGet(path, Guard(answer));

        // The phases of an update, in their order.
        Post("/init_weight_transfer_engine", InitAsync);
        Post("/pause", PauseAsync);
        Post("/start_weight_update", c => RunAsync(c, receiver.StartAsync, new { message = "Weight update started" }));
        Post("/update_weights", UpdateAsync);
        Post("/finish_weight_update", FinishAsync);
        Post("/reset_prefix_cache", c => RunAsync(c, receiver.ResetPrefixCacheAsync, new { }));
        Post("/resume", c => RunAsync(c, receiver.ResumeAsync, new { status = "resumed" }));

        Get("/is_paused", c => ApiJson.WriteAsync(c, new { is_paused = receiver.IsPaused }));
        Get("/get_world_size", c => ApiJson.WriteAsync(c, new { world_size = 1, weights_by = receiver.Ways }));
    }

    private RequestDelegate Guard(RequestDelegate answer) =>
        context =>
            adminOnly && !AdminPort.Admits(context)
                ? throw new ApiException(
                    StatusCodes.Status403Forbidden,
                    "Weights are taken on this server's admin port only, from those who have its cluster key"
                )
                : answer(context);

    private async Task InitAsync(HttpContext context)
    {
        var info = await ReadAsync<InitInfo>(context, "init_info");
        await RunAsync(context, () => receiver.InitAsync(info), new { message = "Weight transfer initialized" });
    }

    private async Task UpdateAsync(HttpContext context)
    {
        var info = await ReadAsync<UpdateInfo>(context, "update_info");
        if (info is { Names: null } or { TypeNames: null } or { Shapes: null })
            throw BadRequest("update_info: names, dtype_names and shapes are needed", "update_info");
        await RunAsync(context, () => receiver.UpdateAsync(info), new { message = "Weights updated" });
    }

    private Task PauseAsync(HttpContext context)
    {
        var query = context.Request.Query;
        string mode = Mode(query);
        bool clearCache = Flag(query, "clear_cache", true);
        return RunAsync(context, () => receiver.PauseAsync(mode, clearCache), new { status = "paused" });
    }

    private static string Mode(IQueryCollection query)
    {
        if (query["mode"].ToString() is { Length: > 0 } mode)
            return mode;
        return Flag(query, "wait_for_inflight_requests", false) ? "wait" : "abort";
    }

    private static bool Flag(IQueryCollection query, string name, bool otherwise) =>
        query[name].ToString() switch
        {
            "" => otherwise,
            "true" or "True" or "1" => true,
            "false" or "False" or "0" => false,
            var other => throw BadRequest($"{name}: expected true or false, found '{Shown.Short(other)}'", name),
        };

    private async Task FinishAsync(HttpContext context)
    {
        string? text = null;
        if (context.Request.ContentLength > 0)
        {
            using var body = await RequestBody.ReadAsync(context, budget, limits);
            text = body.Read(root =>
                root.TryGetProperty("weight_version", out var value) && value.ValueKind == JsonValueKind.String
                    ? value.GetString()
                    : null
            );
        }

        int? version = null;
        if (text is not null)
            version = int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                ? number
                : throw BadRequest(
                    $"weight_version: expected a whole number, found '{Shown.Short(text)}'",
                    "weight_version"
                );
        await RunAsync(context, () => receiver.FinishAsync(version), new { message = "Weight update finished" });
    }

    private async Task<T> ReadAsync<T>(HttpContext context, string field)
    {
        using var body = await RequestBody.ReadAsync(context, budget, limits);
        return body.Read(root =>
            root.TryGetProperty(field, out var value) && value.ValueKind == JsonValueKind.Object
                ? Deserialize<T>(value, field)
                : throw BadRequest($"{field}: missing; expected an object", field)
        );
    }

    private static T Deserialize<T>(JsonElement value, string field)
    {
        try
        {
            return value.Deserialize<T>()!; // an object, so never null
        }
        catch (JsonException e)
        {
            throw BadRequest($"{field}: {e.Message}", field);
        }
    }

    private static ApiException BadRequest(string message, string? field = null) =>
        new(StatusCodes.Status400BadRequest, message, field);

    /// <summary>Runs a call and writes its answer; failures become HTTP's.</summary>
    private static async Task RunAsync(HttpContext context, Func<Task> call, object answer)
    {
        try
        {
            await call();
        }
        catch (ArgumentException e)
        {
            throw BadRequest(e.Message);
        }
        catch (Exception e) when (e is InvalidOperationException or InvalidDataException)
        {
            throw new ApiException(StatusCodes.Status409Conflict, e.Message); // not now, or not in this way
        }
        catch (Exception e) when (e is IOException or TimeoutException)
        {
            throw new ApiException(StatusCodes.Status502BadGateway, e.Message);
        }
        catch (OutOfMemoryException e)
        {
            throw new ApiException(StatusCodes.Status507InsufficientStorage, e.Message);
        }
        await ApiJson.WriteAsync(context, answer);
    }
}
