using System.Buffers;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Endpoints;

/// <summary>An answer as server-sent events.</summary>
internal sealed class EventStream
{
    private readonly HttpContext context;

    public EventStream(HttpContext context)
    {
        this.context = context;
        context.Response.ContentType = "text/event-stream";
        context.Response.Headers.CacheControl = "no-cache";
        context.Response.Headers["X-Accel-Buffering"] = "no"; // a proxy in between must not collect events
    }

    public void Write(Answer answer) => Write(JsonSerializer.SerializeToUtf8Bytes(answer, ApiJson.Options));

    public void Write(ApiException error) => Write(error.Body());

    /// <summary>The end of a complete answer.</summary>
    public void WriteDone() => Write("[DONE]"u8);

    /// <summary>Sends what was written.</summary>
    public Task FlushAsync() => context.Response.BodyWriter.FlushAsync(context.RequestAborted).AsTask();

    private void Write(ReadOnlySpan<byte> data)
    {
        var body = context.Response.BodyWriter;
        body.Write("data: "u8);
        body.Write(data);
        body.Write("\n\n"u8);
    }
}
