using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using SimpleR1.Server.Limits;

namespace SimpleR1.Server.Api;

/// <summary>An error that the client is told, in OpenAI's shape.</summary>
/// <param name="param">The field it is about.</param>
/// <param name="code">For programs, where OpenAI has one.</param>
internal sealed class ApiException(
    int status,
    string message,
    string? param = null,
    string? code = null,
    int? retryAfter = null
) : Exception(message)
{
    public int Status => status;

    public byte[] Body() =>
        JsonSerializer.SerializeToUtf8Bytes(new ErrorBody(new(Message, Kind(status), param, code)), ApiJson.Options);

    /// <summary>Sends it as the whole answer. The connection ends where the body was not read: what is left of it is not worth waiting for.</summary>
    public Task WriteAsync(HttpContext context)
    {
        var response = context.Response;
        var allowed = response.Headers.Allow; // with a 405
        response.Clear();
        response.Headers.Allow = allowed;
        response.StatusCode = status;
        response.ContentType = "application/json";
        if (retryAfter is { } seconds)
            response.Headers.RetryAfter = seconds.ToString(System.Globalization.CultureInfo.InvariantCulture);
        if (status == StatusCodes.Status401Unauthorized)
            response.Headers.WWWAuthenticate = "Bearer";
        if (
            status is StatusCodes.Status408RequestTimeout or StatusCodes.Status413PayloadTooLarge
            || context.Features.Get<IHttpRequestBodyDetectionFeature>() is { CanHaveBody: true }
                && !context.Items.ContainsKey(typeof(RequestBody))
        )
            response.Headers.Connection = "close";
        byte[] body = Body();
        response.ContentLength = body.Length;
        return HttpMethods.IsHead(context.Request.Method)
            ? Task.CompletedTask
            : response.Body.WriteAsync(body).AsTask();
    }

    private static string Kind(int status) =>
        status switch
        {
            401 or 403 => "authentication_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            >= 500 => "server_error",
            _ => "invalid_request_error",
        };

    private sealed record ErrorBody(Error Error);

    private sealed record Error(string Message, string Type, string? Param, string? Code);
}

internal static class ApiJson
{
    /// <summary>Snake case; text as it is, but for what JSON itself must escape.</summary>
    public static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static Task WriteAsync(HttpContext context, object answer)
    {
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(answer, answer.GetType(), Options);
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = body.Length;
        return context.Response.Body.WriteAsync(body, context.RequestAborted).AsTask();
    }
}
