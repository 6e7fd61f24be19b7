using Microsoft.AspNetCore.Routing;
using SimpleR1.Server.Limits;

namespace SimpleR1.Server;

/// <summary>Endpoints that another project adds to the server.</summary>
public sealed class HttpExtension
{
    /// <param name="map">Adds the endpoints.</param>
    /// <param name="stopAsync">Runs before the server drains: ends whatever would keep requests from finishing.</param>
    internal HttpExtension(Action<IEndpointRouteBuilder, ExtensionHost> map, Func<ValueTask> stopAsync)
    {
        Map = map;
        StopAsync = stopAsync;
    }

    internal Action<IEndpointRouteBuilder, ExtensionHost> Map { get; }
    internal Func<ValueTask> StopAsync { get; }
}

/// <summary>What a server offers to an extension's endpoints.</summary>
/// <param name="Limits">The server's limits for requests.</param>
/// <param name="Bodies">The memory that all request bodies share.</param>
/// <param name="AdminOnly">Whether the endpoints must answer on the admin port only.</param>
internal sealed record ExtensionHost(HttpLimits Limits, BodyBudget Bodies, bool AdminOnly);
