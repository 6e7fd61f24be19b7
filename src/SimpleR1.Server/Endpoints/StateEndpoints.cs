using System.Text;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;
using SimpleR1.Server.Metrics;

namespace SimpleR1.Server.Endpoints;

/// <summary>The server's state, for probes and Prometheus: /health and /metrics.</summary>
internal sealed class StateEndpoints(EndpointContext server)
{
    /// <summary>200 while the source can complete and the server takes requests, otherwise 503.</summary>
    public Task HealthAsync(HttpContext context)
    {
        string? problem = server.Source.Problem ?? (server.Admission.Closed ? "stopping" : null);
        if (problem is not null)
            context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
        return ApiJson.WriteAsync(context, new Health(problem is null ? "ok" : "unavailable", problem));
    }

    public Task MetricsAsync(HttpContext context)
    {
        context.Response.ContentType = PrometheusText.ContentType;
        byte[] text = Encoding.UTF8.GetBytes(server.Metrics.Text());
        return context.Response.Body.WriteAsync(text).AsTask();
    }

    private sealed record Health(string Status, string? Problem);
}
