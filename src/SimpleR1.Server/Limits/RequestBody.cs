using System.Buffers;
using System.IO.Pipelines;
using System.Numerics;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>Bytes of bodies that the server holds at this moment, all requests together: thousands of large uploads at once must not fill the memory.</summary>
internal sealed class BodyBudget(long limit)
{
    private long used;

    public long Used => Interlocked.Read(ref used);

    /// <exception cref="ApiException">429: the bodies of others leave no room.</exception>
    public void Take(int bytes)
    {
        if (Interlocked.Add(ref used, bytes) <= limit)
            return;
        Return(bytes);
        throw new ApiException(
            StatusCodes.Status429TooManyRequests,
            $"The requests that this server is receiving fill its limit of {limit >> 20} MiB; try again",
            retryAfter: 1
        );
    }

    public void Return(int bytes) => Interlocked.Add(ref used, -bytes);
}

/// <summary>A request's JSON body.</summary>
internal sealed class RequestBody : IDisposable
{
    private readonly BodyBudget budget;
    private byte[] bytes = [];
    private int length,
        taken;
    private JsonDocument? document;

    private RequestBody(BodyBudget budget) => this.budget = budget;

    /// <summary>What the object says.</summary>
    /// <exception cref="ApiException">400: what is wrong with it.</exception>
    public T Read<T>(Func<JsonElement, T> read)
    {
        try
        {
            return read(document!.RootElement);
        }
        catch (InvalidOperationException e) when (e is not ObjectDisposedException) // half a surrogate pair, written as \ud800
        {
            throw NoUnicode(e);
        }
    }

    /// <summary>Reads the whole body and parses it.</summary>
    /// <exception cref="ApiException">413, 415, 429, or 400: what is wrong with it.</exception>
    /// <exception cref="BadHttpRequestException">It is too large, or came too slowly.</exception>
    public static async Task<RequestBody> ReadAsync(HttpContext context, BodyBudget budget, HttpLimits limits)
    {
        var request = context.Request;
        if (!request.HasJsonContentType())
            throw new ApiException(
                StatusCodes.Status415UnsupportedMediaType,
                $"Expected a body with Content-Type: application/json, found {(request.ContentType is { Length: > 0 } type ? $"'{Shown.Short(type)}'" : "none")}"
            );
        if (request.ContentLength > (long)limits.BodyKib << 10)
            throw TooLarge(limits);
        var body = new RequestBody(budget);
        try
        {
            await body.ReceiveAsync(request.BodyReader, limits, context.RequestAborted);
            context.Items[typeof(RequestBody)] = true; // read to its end: the connection can go on
            if (!System.Text.Unicode.Utf8.IsValid(body.bytes.AsSpan(0, body.length)))
                throw new ApiException(StatusCodes.Status400BadRequest, "The body is not UTF-8");
            body.document = JsonDocument.Parse(
                body.bytes.AsMemory(0, body.length),
                new() { MaxDepth = limits.JsonDepth, AllowDuplicateProperties = false }
            );
            if (body.document.RootElement.ValueKind != JsonValueKind.Object)
                throw new ApiException(
                    StatusCodes.Status400BadRequest,
                    $"Expected a JSON object, found {body.Read(Shown.Kind)}"
                );
            return body;
        }
        catch (JsonException e)
        {
            body.Dispose();
            throw new ApiException(
                StatusCodes.Status400BadRequest,
                $"The body is not JSON, or nested deeper than {limits.JsonDepth} levels: {e.Message}"
            );
        }
        catch (InvalidOperationException e) when (body.taken > 0 && e is not ObjectDisposedException) // a name that is no Unicode, met in the search for equal names
        {
            body.Dispose();
            throw NoUnicode(e);
        }
        catch
        {
            body.Dispose();
            throw;
        }
    }

    private static ApiException NoUnicode(Exception e) =>
        new(StatusCodes.Status400BadRequest, $"The body holds a text that is no Unicode: {e.Message}");

    private async Task ReceiveAsync(PipeReader reader, HttpLimits limits, CancellationToken cancellation)
    {
        while (true)
        {
            var result = await reader.ReadAsync(cancellation);
            int count = checked((int)result.Buffer.Length);
            if (length + (long)count > (long)limits.BodyKib << 10)
                throw TooLarge(limits);
            Reserve(length + count);
            result.Buffer.CopyTo(bytes.AsSpan(length));
            length += count;
            reader.AdvanceTo(result.Buffer.End);
            if (result.IsCompleted)
                return;
        }
    }

    private void Reserve(int needed)
    {
        if (needed <= bytes.Length)
            return;
        int size = (int)BitOperations.RoundUpToPowerOf2((uint)Math.Max(needed, 1024));
        budget.Take(size - taken);
        taken = size;
        Array.Resize(ref bytes, size);
    }

    public static ApiException TooLarge(HttpLimits limits) =>
        new(
            StatusCodes.Status413PayloadTooLarge,
            $"The body is larger than this server's limit of {limits.BodyKib} KiB; send fewer prompts at once"
        );

    public void Dispose()
    {
        document?.Dispose();
        budget.Return(taken);
        taken = 0;
    }
}
