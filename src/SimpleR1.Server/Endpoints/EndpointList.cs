using Microsoft.AspNetCore.Http;

namespace SimpleR1.Server.Endpoints;

/// <summary>
/// Every endpoint of the server. The routing, the message of a 404 and the labels of the metrics follow from this list:
/// a new endpoint is a handler and one line here.
/// </summary>
internal static class EndpointList
{
    public const string Health = "/health";

    public static IReadOnlyList<ApiEndpoint> Create(EndpointContext context)
    {
        var generation = new GenerationEndpoint(context);
        var models = new ModelEndpoints(context);
        var tokens = new TokenEndpoints(context);
        var state = new StateEndpoints(context);
        return
        [
            Post("/v1/completions", request => generation.AnswerAsync(request, chat: false)),
            Post("/v1/chat/completions", request => generation.AnswerAsync(request, chat: true)),
            Get("/v1/models", models.ListAsync),
            Get("/v1/models/{**name}", models.FindAsync),
            Post("/tokenize", tokens.TokenizeAsync),
            Post("/detokenize", tokens.DetokenizeAsync),
            Get(Health, state.HealthAsync),
            Get("/metrics", state.MetricsAsync),
        ];
    }

    private static ApiEndpoint Get(string route, RequestDelegate handler) => new(HttpMethods.Get, route, handler);

    private static ApiEndpoint Post(string route, RequestDelegate handler) => new(HttpMethods.Post, route, handler);
}
