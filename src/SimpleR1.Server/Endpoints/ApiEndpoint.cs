using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Metrics;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Endpoints;

/// <summary>A path of the API.</summary>
/// <param name="Method">The HTTP method that the path takes.</param>
/// <param name="Route">ASP.NET's route pattern; it is also the route's label in the metrics.</param>
/// <param name="Handler">Answers a request.</param>
internal sealed record ApiEndpoint(string Method, string Route, RequestDelegate Handler)
{
    /// <summary>Whether the route is one path, without parameters.</summary>
    public bool IsPath => !Route.Contains('{', StringComparison.Ordinal);
}

/// <summary>What endpoints work with.</summary>
internal sealed record EndpointContext
{
    public required ICompletionSource Source { get; init; }
    public required PromptEncoder Encoder { get; init; }
    public required HttpLimits Limits { get; init; }
    public required BodyBudget Bodies { get; init; }
    public required Admission Admission { get; init; }
    public required HttpMetrics Metrics { get; init; }

    /// <summary>Cancelled when the server ends what is in flight.</summary>
    public required CancellationToken Stopped { get; init; }
}
