using System.Buffers;
using System.IO.Pipelines;
using System.Numerics;
using System.Text.Json;
using System.Text.Unicode;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>A request's JSON body.</summary>
internal sealed class RequestBody : IDisposable
{
    private readonly BodyBudget budget;
    private byte[] bytes = [];
    private int length;
    private int taken; // of the budget
    private JsonDocument? document;

    private RequestBody(BodyBudget budget) => this.budget = budget;

    /// <summary>
    /// Whether the body of a request was read to its end, so that the connection can serve another request.
    /// </summary>
    public static bool WasRead(HttpContext context) => context.Items.ContainsKey(typeof(RequestBody));

    /// <summary>Reads the body's object.</summary>
    /// <exception cref="ApiException">A text in the body is not Unicode (400).</exception>
    public T Read<T>(Func<JsonElement, T> read)
    {
        try
        {
            return read(document!.RootElement);
        }
        catch (InvalidOperationException e) when (e is not ObjectDisposedException) // half a surrogate pair: \ud800
        {
            throw NoUnicode(e);
        }
    }

    /// <summary>Receives the whole body and parses it.</summary>
    /// <exception cref="ApiException">
    /// The body is too large (413), not declared as JSON (415), without room in the budget (429), or not a JSON object
    /// in UTF-8 (400).
    /// </exception>
    /// <exception cref="BadHttpRequestException">The body is too large, or comes too slowly.</exception>
    public static async Task<RequestBody> ReadAsync(HttpContext context, BodyBudget budget, HttpLimits limits)
    {
        CheckHeaders(context.Request, limits);
        var body = new RequestBody(budget);
        try
        {
            await body.ReceiveAsync(context.Request.BodyReader, limits, context.RequestAborted);
            context.Items[typeof(RequestBody)] = true;
            body.Parse(limits);
            return body;
        }
        catch
        {
            body.Dispose();
            throw;
        }
    }

    private static void CheckHeaders(HttpRequest request, HttpLimits limits)
    {
        if (!request.HasJsonContentType())
        {
            string found = request.ContentType is { Length: > 0 } type ? $"'{Shown.Short(type)}'" : "none";
            throw new ApiException(
                StatusCodes.Status415UnsupportedMediaType,
                $"Expected a body with Content-Type: application/json, found {found}"
            );
        }
        if (request.ContentLength > limits.BodyBytes)
            throw TooLarge(limits);
    }

    private async Task ReceiveAsync(PipeReader reader, HttpLimits limits, CancellationToken cancellation)
    {
        while (true)
        {
            var result = await reader.ReadAsync(cancellation);
            int count = checked((int)result.Buffer.Length);
            if (length + (long)count > limits.BodyBytes)
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

    private void Parse(HttpLimits limits)
    {
        var text = bytes.AsMemory(0, length);
        if (!Utf8.IsValid(text.Span))
            throw new ApiException(StatusCodes.Status400BadRequest, "The body is not UTF-8");
        try
        {
            document = JsonDocument.Parse(
                text,
                new() { MaxDepth = limits.JsonDepth, AllowDuplicateProperties = false }
            );
        }
        catch (JsonException e)
        {
            throw new ApiException(
                StatusCodes.Status400BadRequest,
                $"The body is not JSON, or nested deeper than {limits.JsonDepth} levels: {e.Message}"
            );
        }
        catch (InvalidOperationException e) // a name that is not Unicode, met in the search for duplicate names
        {
            throw NoUnicode(e);
        }
        if (document.RootElement.ValueKind != JsonValueKind.Object)
            throw new ApiException(
                StatusCodes.Status400BadRequest,
                $"Expected a JSON object, found {Read(Shown.Kind)}"
            );
    }

    private static ApiException NoUnicode(Exception e) =>
        new(StatusCodes.Status400BadRequest, $"The body holds a text that is no Unicode: {e.Message}");

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
