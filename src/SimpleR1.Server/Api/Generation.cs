using System.Threading.Channels;
using Microsoft.AspNetCore.Http;
using SimpleR1.Inference;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>A token of an answer, with what clients may ask about it.</summary>
internal readonly record struct TokenReport(int Token, float LogProb, TokenLogProb[]? Top);

/// <summary>A piece of one choice: everything new since the last piece.</summary>
/// <param name="Completion">The whole completion, with the last piece only.</param>
internal sealed record Piece(int Choice, string Text, IReadOnlyList<TokenReport> Tokens, Completion? Completion)
{
    /// <summary>
    /// The piece's text, then its end: clients may stop reading at a finish reason, without the text beside it.
    /// </summary>
    public IEnumerable<Piece> Split() =>
        Completion is null || Text.Length == 0 && Tokens.Count == 0
            ? [this]
            : [this with { Completion = null }, new(Choice, "", [], Completion)];

    /// <summary>One piece with all of a choice.</summary>
    public static Piece Whole(int choice, Completion completion)
    {
        TokenReport Report(int token, int i) => new(token, completion.LogProbs[i], completion.TopLogProbs?[i]);
        return new(choice, completion.Text, [.. completion.Tokens.Select(Report)], completion);
    }
}

/// <summary>All prompts of a request, running in the source; disposal aborts what still runs.</summary>
internal sealed class Generation : IAsyncDisposable
{
    private readonly ApiRequest request;
    private readonly ICompletionSource source;
    private readonly Channel<(int Prompt, TokenEvent Event)> events = Channel.CreateUnbounded<(int, TokenEvent)>(
        new() { SingleReader = true }
    );
    private readonly CancellationTokenSource stop;
    private readonly CancellationToken clientLeft;
    private readonly Task[] pumps;
    private int running;

    /// <param name="clientLeft">Cancelled when the client no longer waits for the answer.</param>
    /// <param name="stopped">Cancelled when the server ends what is in flight.</param>
    /// <exception cref="ApiException">The completions do not fit the context (400).</exception>
    public Generation(
        ICompletionSource source,
        ApiRequest request,
        IReadOnlyList<int[]> prompts,
        CancellationToken clientLeft,
        CancellationToken stopped
    )
    {
        this.source = source;
        this.request = request;
        this.clientLeft = clientLeft;
        running = prompts.Count;
        stop = CancellationTokenSource.CreateLinkedTokenSource(clientLeft, stopped);

        // All requests first: nothing runs if one of them does not fit.
        GenerationRequest[] requests = [.. prompts.Select(Request)];
        pumps = [.. requests.Select(PumpAsync)];
    }

    private GenerationRequest Request(int[] ids, int index) =>
        new($"{request.Id}-{index}", ids, request.Sampling with { MaxTokens = MaxTokens(ids) });

    /// <summary>The number of tokens asked for, or the API's default within what the context leaves.</summary>
    private int MaxTokens(int[] ids)
    {
        int room = source.Context - ids.Length;
        int wanted = request.Sampling.MaxTokens;
        if (wanted > room)
            throw new ApiException(
                StatusCodes.Status400BadRequest,
                $"max_tokens: {ids.Length} prompt tokens and {wanted} new ones do not fit the context of "
                    + $"{source.Context}; at most {room} are left",
                "max_tokens",
                "context_length_exceeded"
            );
        if (wanted > 0)
            return wanted;
        return request.Chat ? room : Math.Min(room, Math.Max(16, request.Sampling.MinTokens));
    }

    private async Task PumpAsync(GenerationRequest prompt, int index)
    {
        try
        {
            await foreach (var e in source.StreamAsync(prompt, stop.Token))
                events.Writer.TryWrite((index, e));
            if (Interlocked.Decrement(ref running) == 0)
                events.Writer.TryComplete();
        }
        catch (Exception e) // thrown again where the events are read
        {
            events.Writer.TryComplete(e);
        }
    }

    /// <summary>Waits for the next pieces; false when all choices are complete.</summary>
    /// <exception cref="ApiException">The source refuses the request, fails or is shut down.</exception>
    public async Task<bool> WaitAsync()
    {
        try
        {
            return await events.Reader.WaitToReadAsync();
        }
        catch (ArgumentException e)
        {
            throw new ApiException(StatusCodes.Status400BadRequest, e.Message);
        }
        catch (OperationCanceledException) when (!clientLeft.IsCancellationRequested)
        {
            throw Admission.StoppingError();
        }
        catch (InvalidOperationException e)
        {
            throw new ApiException(StatusCodes.Status503ServiceUnavailable, e.Message);
        }
    }

    /// <summary>The next piece, if one has come since <see cref="WaitAsync"/>.</summary>
    public bool TryRead(out Piece piece)
    {
        piece = null!;
        if (!events.Reader.TryRead(out var next))
            return false;

        var (prompt, e) = next;
        int choice = prompt * request.Sampling.Samples + e.SampleIndex;
        TokenReport[] tokens = e.Token < 0 ? [] : [new(e.Token, e.LogProb, e.Top)];
        piece = new(choice, e.Text, tokens, e.Completion);
        return true;
    }

    public async ValueTask DisposeAsync()
    {
        stop.Cancel();
        await Task.WhenAll(pumps);
        stop.Dispose();
    }
}
