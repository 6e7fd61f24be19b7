using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using SimpleR1.Server;
using SimpleR1.Server.Api;
using SimpleR1.Server.Limits;

namespace SimpleR1.Vllm;

/// <summary>The paths of vLLM's weight transfer (its development mode), with vLLM's answers.</summary>
/// <param name="adminOnly">Answer them only on connections of the admin port.</param>
internal sealed class WeightEndpoints(WeightReceiver receiver, HttpLimits limits, BodyBudget budget, bool adminOnly)
{
    public void Map(IEndpointRouteBuilder routes)
    {
        void Post(string path, RequestDelegate answer) => routes.MapPost(path, Guarded(answer));
        void Get(string path, RequestDelegate answer) => routes.MapGet(path, Guarded(answer));
        Post(
            "/init_weight_transfer_engine",
            context =>
                DoAsync(
                    context,
                    "init_info",
                    async (InitInfo info) => await receiver.InitAsync(info),
                    new { message = "Weight transfer initialized" }
                )
        );
        Post(
            "/start_weight_update",
            context => DoAsync(context, receiver.StartAsync, new { message = "Weight update started" })
        );
        Post(
            "/update_weights",
            context =>
                DoAsync(
                    context,
                    "update_info",
                    async (UpdateInfo info) => await receiver.UpdateAsync(info),
                    new { message = "Weights updated" }
                )
        );
        Post("/finish_weight_update", FinishAsync);
        Post(
            "/pause",
            context =>
                DoAsync(
                    context,
                    () =>
                        receiver.PauseAsync(
                            Mode(context.Request.Query),
                            Flag(context.Request.Query, "clear_cache", true)
                        ),
                    new { status = "paused" }
                )
        );
        Post("/resume", context => DoAsync(context, receiver.ResumeAsync, new { status = "resumed" }));
        Get("/is_paused", context => ApiJson.WriteAsync(context, new { is_paused = receiver.IsPaused }));
        Get(
            "/get_world_size",
            context => ApiJson.WriteAsync(context, new { world_size = 1, weights_by = receiver.Ways })
        );
        Post("/reset_prefix_cache", context => DoAsync(context, receiver.ResetPrefixCacheAsync, new { }));
    }

    private RequestDelegate Guarded(RequestDelegate answer) =>
        context =>
            adminOnly && !AdminPort.Admits(context)
                ? throw new ApiException(
                    StatusCodes.Status403Forbidden,
                    "Weights are taken on this server's admin port only, from those who have its cluster key"
                )
                : answer(context);

    private static string Mode(IQueryCollection query) =>
        query["mode"].ToString() is { Length: > 0 } mode ? mode
        : Flag(query, "wait_for_inflight_requests", false) ? "wait"
        : "abort";

    private static bool Flag(IQueryCollection query, string name, bool otherwise) =>
        query[name].ToString() switch
        {
            "" => otherwise,
            "true" or "True" or "1" => true,
            "false" or "False" or "0" => false,
            var other => throw new ApiException(
                StatusCodes.Status400BadRequest,
                $"{name}: expected true or false, found '{Shown.Short(other)}'",
                name
            ),
        };

    private async Task FinishAsync(HttpContext context)
    {
        string? version = null;
        if (context.Request.ContentLength > 0)
        {
            using var body = await RequestBody.ReadAsync(context, budget, limits);
            version = body.Read(root =>
                root.TryGetProperty("weight_version", out var v) && v.ValueKind == JsonValueKind.String
                    ? v.GetString()
                    : null
            );
        }
        if (version is not null && (!int.TryParse(version, NumberStyles.None, CultureInfo.InvariantCulture, out _)))
            throw new ApiException(
                StatusCodes.Status400BadRequest,
                $"weight_version: expected a whole number, found '{Shown.Short(version)}'",
                "weight_version"
            );
        await DoAsync(
            context,
            () => receiver.FinishAsync(version is null ? null : int.Parse(version, CultureInfo.InvariantCulture)),
            new { message = "Weight update finished" }
        );
    }

    private async Task DoAsync<T>(HttpContext context, string field, Func<T, Task> call, object answer)
    {
        T info;
        using (var body = await RequestBody.ReadAsync(context, budget, limits))
            info = body.Read(root =>
                root.TryGetProperty(field, out var value) && value.ValueKind == JsonValueKind.Object
                    ? Deserialize<T>(value, field)
                    : throw new ApiException(
                        StatusCodes.Status400BadRequest,
                        $"{field}: missing; expected an object",
                        field
                    )
            );
        await DoAsync(context, () => call(info), answer);
    }

    private static T Deserialize<T>(JsonElement value, string field)
    {
        try
        {
            return
                value.Deserialize<T>() is { } info
                && info
                    is not UpdateInfo { Names: null }
                        and not UpdateInfo { TypeNames: null }
                        and not UpdateInfo { Shapes: null }
                ? info
                : throw new JsonException("names, dtype_names and shapes are needed");
        }
        catch (JsonException e)
        {
            throw new ApiException(StatusCodes.Status400BadRequest, $"{field}: {e.Message}", field);
        }
    }

    private static async Task DoAsync(HttpContext context, Func<Task> call, object answer)
    {
        try
        {
            await call();
        }
        catch (ArgumentException e)
        {
            throw new ApiException(StatusCodes.Status400BadRequest, e.Message);
        }
        catch (Exception e) when (e is InvalidOperationException or InvalidDataException)
        {
            throw new ApiException(StatusCodes.Status409Conflict, e.Message);
        } // not now, or not in this way
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
