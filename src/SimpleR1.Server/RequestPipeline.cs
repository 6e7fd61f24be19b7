using System.Diagnostics;
using System.Globalization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using SimpleR1.Server.Api;
using SimpleR1.Server.Endpoints;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Metrics;
using SimpleR1.Server.Sources;
using BadRequest = Microsoft.AspNetCore.Http.BadHttpRequestException;

namespace SimpleR1.Server;

/// <summary>What happens around every request: keys are checked, failures become errors, metrics count.</summary>
/// <param name="endpoints">Named by the message of a 404.</param>
/// <param name="stopped">Cancelled when the server ends what is in flight.</param>
internal sealed class RequestPipeline(
    ICompletionSource source,
    HttpOptions options,
    HttpMetrics metrics,
    IReadOnlyList<ApiEndpoint> endpoints,
    CancellationToken stopped
)
{
    private const int ClientClosedRequest = 499; // nginx's status, for the metrics only

    private readonly ApiKeys keys = new(options.ApiKeys);
    private bool problemLogged;

    /// <summary>The middleware.</summary>
    public async Task WrapAsync(HttpContext context, RequestDelegate next)
    {
        long start = Stopwatch.GetTimestamp();
        string id = RequestId.Set(context);
        bool clientLeft = !await TryAnswerAsync(context, next);
        LogProblemOnce();

        string route = (context.GetEndpoint() as RouteEndpoint)?.RoutePattern.RawText ?? "other";
        int status = clientLeft ? ClientClosedRequest : context.Response.StatusCode;
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        metrics.Count(route, status, seconds);
        options.AccessLog?.Invoke(AccessLine(context, status, seconds, id));
    }

    /// <summary>Who asked for what, what came of it and how long it took; nothing of bodies, keys or queries.</summary>
    private static string AccessLine(HttpContext context, int status, double seconds, string id) =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{DateTime.UtcNow:yyyy-MM-ddTHH:mm:ss.fffZ} {context.Connection.RemoteIpAddress} "
                + $"{Shown.Short(context.Request.Method)} {Shown.Short(context.Request.Path.ToUriComponent())} {status} "
                + $"{1000 * seconds:F1} ms {id}"
        );

    /// <returns>False if the client went away.</returns>
    private async Task<bool> TryAnswerAsync(HttpContext context, RequestDelegate next)
    {
        try
        {
            CheckKey(context);
            await next(context);
            if (!context.Response.HasStarted && context.Response is { StatusCode: >= 400, ContentLength: null })
                throw UnansweredError(context);
        }
        catch (Exception e)
            when (context.RequestAborted.IsCancellationRequested && e is OperationCanceledException or IOException)
        {
            return false;
        }
        catch (Exception e) when (!context.Response.HasStarted)
        {
            await ToApiException(e).WriteAsync(context);
        }
        catch (Exception e)
        {
            if (e is not OperationCanceledException)
                options.Log($"an answer to {context.Request.Path} ended early: {e}");
            context.Abort(); // so that a client cannot mistake a partial answer for a complete one
        }
        return true;
    }

    private void CheckKey(HttpContext context)
    {
        bool isProbe = context.Request.Path == EndpointList.Health; // probes have no key
        if (!isProbe && !AdminPort.Admits(context))
            keys.Check(context.Request);
    }

    /// <summary>Logs the source's problem when it begins, not with each request.</summary>
    private void LogProblemOnce()
    {
        string? problem = source.Problem;
        if (problem is null)
            problemLogged = false;
        else if (!Interlocked.Exchange(ref problemLogged, true))
            options.Log($"nothing can be completed: {problem}");
    }

    private ApiException ToApiException(Exception e)
    {
        switch (e)
        {
            case ApiException error:
                return error;
            case BadRequest { StatusCode: StatusCodes.Status413PayloadTooLarge }:
                return RequestBody.TooLarge(options.Limits);
            case BadRequest badRequest:
                return new(badRequest.StatusCode, badRequest.Message);
            case IOException unreadable: // for example a chunk of impossible size
                return new(StatusCodes.Status400BadRequest, $"The body can't be read: {unreadable.Message}");
            case OperationCanceledException when stopped.IsCancellationRequested:
                return Admission.StoppingError();
            default:
                options.Log($"a request failed; this looks like a bug in SimpleR1: {e}");
                return new(
                    StatusCodes.Status500InternalServerError,
                    "The server failed at this request; its log has the details"
                );
        }
    }

    /// <summary>The error of a request that no endpoint answered.</summary>
    private ApiException UnansweredError(HttpContext context)
    {
        var path = context.Request.Path;
        int status = context.Response.StatusCode;
        string message = status switch
        {
            StatusCodes.Status404NotFound => $"There is nothing at {Shown.Short(path)}; there are {Paths()}",
            StatusCodes.Status405MethodNotAllowed => $"{path} does not take {Shown.Short(context.Request.Method)}, "
                + $"but {context.Response.Headers.Allow}",
            _ => $"The server answers {status}",
        };
        return new(status, message);
    }

    private string Paths()
    {
        string[] paths = [.. endpoints.Where(e => e.IsPath).Select(e => e.Route)];
        return $"{string.Join(", ", paths[..^1])} and {paths[^1]}";
    }
}
