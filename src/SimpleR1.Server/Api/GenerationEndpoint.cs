using System.Buffers;
using System.Diagnostics;
using System.Text.Json;
using Microsoft.AspNetCore.Http;
using SimpleR1.Inference;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>/v1/completions and /v1/chat/completions.</summary>
internal sealed class GenerationEndpoint(
    ICompletionSource source,
    PromptEncoder encoder,
    HttpLimits limits,
    BodyBudget budget,
    Admission admission,
    HttpMetrics metrics,
    CancellationToken stopped
)
{
    private static readonly byte[] Data = [.. "data: "u8],
        End = [.. "\n\n"u8],
        Done = [.. "data: [DONE]\n\n"u8];
    private readonly ApiRequestReader reader = new(source, encoder, limits);

    public async Task AnswerAsync(HttpContext context, bool chat)
    {
        long start = Stopwatch.GetTimestamp();
        ApiRequest request;
        using (var body = await RequestBody.ReadAsync(context, budget, limits))
            request = body.Read(root => reader.Read(new(root), chat));
        using var visit = admission.Enter(request.Choices);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, stopped);
        var prompts = new int[request.Prompts.Count][];
        for (int i = 0; i < prompts.Length; i++)
        {
            string field = prompts.Length == 1 ? request.PromptField : $"{request.PromptField}[{i}]";
            prompts[i] = await encoder.EncodeAsync(request.Prompts[i], request.AddSpecialTokens, field, ending.Token);
        }
        await using var generation = new Generation(source, request, prompts, context.RequestAborted, stopped);
        await generation.WaitAsync(); // what the engine refuses is a 4xx still
        metrics.FirstToken.Observe(Stopwatch.GetElapsedTime(start).TotalSeconds);
        var shape = new AnswerShape(source, request, prompts);
        if (request.Stream)
            await StreamAsync(context, request, generation, shape);
        else
            await WholeAsync(context, request, generation, shape);
    }

    private static async Task WholeAsync(
        HttpContext context,
        ApiRequest request,
        Generation generation,
        AnswerShape shape
    )
    {
        var choices = new Completion[request.Choices];
        do while (generation.TryRead(out var piece))
            if (piece.Completion is { } completion)
                choices[piece.Choice] = completion;
        while (await generation.WaitAsync());
        await ApiJson.WriteAsync(context, shape.Whole([.. choices.Select((c, i) => Piece.Whole(i, c))]));
    }

    private static async Task StreamAsync(
        HttpContext context,
        ApiRequest request,
        Generation generation,
        AnswerShape shape
    )
    {
        var response = context.Response;
        response.ContentType = "text/event-stream";
        response.Headers.CacheControl = "no-cache";
        response.Headers["X-Accel-Buffering"] = "no"; // a proxy in between must not collect events
        var completions = new List<Completion>();
        try
        {
            do
            {
                while (generation.TryRead(out var piece))
                {
                    if (piece.Completion is { } completion)
                        completions.Add(completion);
                    if (shape.Event(piece) is { } said)
                        Write(said);
                }
                await response.BodyWriter.FlushAsync(context.RequestAborted); // once for all that came meanwhile
            } while (await generation.WaitAsync());
            if (request.IncludeUsage)
                Write(shape.Last(completions));
            response.BodyWriter.Write(Done);
        }
        catch (ApiException e) when (response.HasStarted) // too late for a status
        {
            response.BodyWriter.Write(Data);
            response.BodyWriter.Write(e.Body());
            response.BodyWriter.Write(End);
        }
        await response.BodyWriter.FlushAsync(context.RequestAborted);

        void Write(Answer said)
        {
            response.BodyWriter.Write(Data);
            response.BodyWriter.Write(JsonSerializer.SerializeToUtf8Bytes(said, ApiJson.Options));
            response.BodyWriter.Write(End);
        }
    }
}
