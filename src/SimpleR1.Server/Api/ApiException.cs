using System.Globalization;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using SimpleR1.Server.Limits;

namespace SimpleR1.Server.Api;

/// <summary>An error that the client receives, in OpenAI's shape.</summary>
/// <param name="status">The HTTP status of the answer.</param>
/// <param name="message">What is wrong and what to do, for people.</param>
/// <param name="param">The field that is wrong.</param>
/// <param name="code">The error's name for programs, where OpenAI has one.</param>
/// <param name="retryAfter">Seconds after which the client may try again.</param>
internal sealed class ApiException(
    int status,
    string message,
    string? param = null,
    string? code = null,
    int? retryAfter = null
) : Exception(message)
{
    public int Status => status;

    /// <summary>The error as UTF-8 JSON.</summary>
    public byte[] Body() =>
        JsonSerializer.SerializeToUtf8Bytes(
            new ErrorBody(new(Message, ErrorType(status), param, code)),
            ApiJson.Options
        );

    /// <summary>
    /// Sends the error as the whole answer. If the request's body was not read, the connection ends: the rest of the
    /// body is not worth waiting for.
    /// </summary>
    public Task WriteAsync(HttpContext context)
    {
        // Clear drops all headers, but a 405 needs the list of allowed methods.
        var response = context.Response;
        var allowed = response.Headers.Allow;
        response.Clear();
        response.Headers.Allow = allowed;

        // Headers that go with the status.
        response.StatusCode = status;
        response.ContentType = "application/json";
        if (retryAfter is { } seconds)
            response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
        if (status == StatusCodes.Status401Unauthorized)
            response.Headers.WWWAuthenticate = "Bearer";
        if (EndsConnection(context))
            response.Headers.Connection = "close";

        // The body; the answer to a HEAD request has none.
        byte[] body = Body();
        response.ContentLength = body.Length;
        return HttpMethods.IsHead(context.Request.Method)
            ? Task.CompletedTask
            : response.Body.WriteAsync(body).AsTask();
    }

    private bool EndsConnection(HttpContext context)
    {
        if (status is StatusCodes.Status408RequestTimeout or StatusCodes.Status413PayloadTooLarge)
            return true;
        bool canHaveBody = context.Features.Get<IHttpRequestBodyDetectionFeature>() is { CanHaveBody: true };
        return canHaveBody && !RequestBody.WasRead(context);
    }

    private static string ErrorType(int status) =>
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
