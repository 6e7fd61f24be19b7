using System.Diagnostics;
using Microsoft.AspNetCore.Http;
using SimpleR1.Inference;
using SimpleR1.Server.Api;
using SimpleR1.Server.Limits;

namespace SimpleR1.Server.Endpoints;

/// <summary>/v1/completions and /v1/chat/completions.</summary>
internal sealed class GenerationEndpoint(EndpointContext server)
{
    private readonly ApiRequestReader reader = new(server.Source, server.Encoder, server.Limits);

    public async Task AnswerAsync(HttpContext context, bool chat)
    {
        long start = Stopwatch.GetTimestamp();

        // Read and check the request.
        ApiRequest request;
        using (var body = await RequestBody.ReadAsync(context, server.Bodies, server.Limits))
            request = body.Read(root => reader.Read(new(root), chat));
        using var visit = server.Admission.Enter(request.Choices);
        var prompts = await EncodeAsync(request, context.RequestAborted);

        // Start its prompts. What the engine refuses can still be answered with a 4xx before the first token.
        await using var generation = new Generation(
            server.Source,
            request,
            prompts,
            context.RequestAborted,
            server.Stopped
        );
        await generation.WaitAsync();
        server.Metrics.FirstToken.Observe(Stopwatch.GetElapsedTime(start).TotalSeconds);

        // Answer.
        var shape = new AnswerShape(server.Source, request, prompts);
        if (request.Stream)
            await StreamAsync(context, request, generation, shape);
        else
            await WholeAsync(context, request, generation, shape);
    }

    private async Task<int[][]> EncodeAsync(ApiRequest request, CancellationToken clientLeft)
    {
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(clientLeft, server.Stopped);
        var prompts = new int[request.Prompts.Count][];
        for (int i = 0; i < prompts.Length; i++)
        {
            string field = prompts.Length == 1 ? request.PromptField : $"{request.PromptField}[{i}]";
            prompts[i] = await server.Encoder.EncodeAsync(
                request.Prompts[i],
                request.AddSpecialTokens,
                field,
                ended.Token
            );
        }
        return prompts;
    }

    private static async Task WholeAsync(
        HttpContext context,
        ApiRequest request,
        Generation generation,
        AnswerShape shape
    )
    {
        var choices = new Completion[request.Choices];
        do
        {
            while (generation.TryRead(out var piece))
                if (piece.Completion is { } completion)
                    choices[piece.Choice] = completion;
        } while (await generation.WaitAsync());
        Piece[] pieces = [.. choices.Select((choice, i) => Piece.Whole(i, choice))];
        await ApiJson.WriteAsync(context, shape.Whole(pieces));
    }

    private static async Task StreamAsync(
        HttpContext context,
        ApiRequest request,
        Generation generation,
        AnswerShape shape
    )
    {
        var events = new EventStream(context);
        var completions = new List<Completion>();
        try
        {
            do
            {
                while (generation.TryRead(out var piece))
                {
                    if (piece.Completion is { } completion)
                        completions.Add(completion);
                    foreach (var answer in piece.Split().Select(shape.Event).OfType<Answer>())
                        events.Write(answer);
                }
                await events.FlushAsync(); // once for all pieces that were ready
            } while (await generation.WaitAsync());

            if (request.IncludeUsage)
                events.Write(shape.UsageEvent(completions));
            events.WriteDone();
        }
        catch (ApiException e) when (context.Response.HasStarted) // too late for a status
        {
            events.Write(e);
        }
        await events.FlushAsync();
    }
}
