using System.Text.Encodings.Web;
using System.Text.Json;
using Microsoft.AspNetCore.Http;

namespace SimpleR1.Server.Api;

/// <summary>How the API writes JSON.</summary>
internal static class ApiJson
{
    /// <summary>Snake case names; text is escaped only where JSON itself requires it.</summary>
    public static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Sends an object as the whole answer.</summary>
    public static Task WriteAsync(HttpContext context, object answer)
    {
        byte[] body = JsonSerializer.SerializeToUtf8Bytes(answer, answer.GetType(), Options);
        context.Response.ContentType = "application/json";
        context.Response.ContentLength = body.Length;
        return context.Response.Body.WriteAsync(body, context.RequestAborted).AsTask();
    }
}
