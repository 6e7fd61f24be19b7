using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Endpoints;

/// <summary>The model that the server has: /v1/models.</summary>
internal sealed class ModelEndpoints(EndpointContext server)
{
    private readonly long created = DateTimeOffset.UtcNow.ToUnixTimeSeconds();

    private Model Served => new(server.Source.Model, "model", created, "simple-r1", server.Source.Context);

    public Task ListAsync(HttpContext context) => ApiJson.WriteAsync(context, new Models("list", [Served]));

    public Task FindAsync(HttpContext context)
    {
        string name = (string)context.Request.RouteValues["name"]!;
        return name == server.Source.Model
            ? ApiJson.WriteAsync(context, Served)
            : throw ApiRequestReader.NoSuchModel(server.Source, name);
    }

    private sealed record Model(string Id, string Object, long Created, string OwnedBy, int MaxModelLen);

    private sealed record Models(string Object, IReadOnlyList<Model> Data);
}
