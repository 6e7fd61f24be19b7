using System.Threading.Channels;
using Microsoft.AspNetCore.Http;
using SimpleR1.Inference;
using SimpleR1.Server.Limits;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>A token of an answer, as clients are told about it.</summary>
internal readonly record struct TokenReport(int Token, float LogProb, TokenLogProb[]? Top);

/// <summary>A piece of one choice: what is new since the last one.</summary>
/// <param name="Completion">With the last piece.</param>
internal sealed record Piece(int Choice, string Text, IReadOnlyList<TokenReport> Tokens, Completion? Completion)
{
    /// <summary>All of a choice.</summary>
    public static Piece Whole(int choice, Completion completion) =>
        new(
            choice,
            completion.Text,
            [
                .. completion.Tokens.Select(
                    (token, i) => new TokenReport(token, completion.LogProbs[i], completion.TopLogProbs?[i])
                ),
            ],
            completion
        );
}

/// <summary>All prompts of a request under way in the source; disposal aborts what still runs.</summary>
internal sealed class Generation : IAsyncDisposable
{
    private readonly ApiRequest request;
    private readonly Channel<(int Prompt, TokenEvent Event)> events = Channel.CreateUnbounded<(int, TokenEvent)>(
        new() { SingleReader = true }
    );
    private readonly CancellationTokenSource stop;
    private readonly CancellationToken clientLeft;
    private readonly Task[] pumps;
    private int running;

    /// <param name="clientLeft">Nobody waits for the answer any more.</param>
    /// <param name="stopped">The server ends what is in flight.</param>
    public Generation(
        ICompletionSource source,
        ApiRequest request,
        IReadOnlyList<int[]> prompts,
        CancellationToken clientLeft,
        CancellationToken stopped
    )
    {
        (this.request, running) = (request, prompts.Count);
        Prompts = prompts;
        this.clientLeft = clientLeft;
        stop = CancellationTokenSource.CreateLinkedTokenSource(clientLeft, stopped);
        pumps =
        [
            .. prompts.Select(
                (ids, i) =>
                    PumpAsync(
                        source,
                        new($"{request.Id}-{i}", ids, request.Sampling with { MaxTokens = MaxTokens(source, ids) }),
                        i
                    )
            ),
        ];
    }

    public IReadOnlyList<int[]> Prompts { get; }

    /// <summary>What was asked for, or the API's default within what the context leaves.</summary>
    private int MaxTokens(ICompletionSource source, int[] ids)
    {
        int room = source.Context - ids.Length,
            wanted = request.Sampling.MaxTokens;
        if (wanted > room)
            throw new ApiException(
                StatusCodes.Status400BadRequest,
                $"max_tokens: {ids.Length} prompt tokens and {wanted} new ones do not fit the context of {source.Context}; at most {room} are left",
                "max_tokens",
                "context_length_exceeded"
            );
        return wanted > 0 ? wanted
            : request.Chat ? room
            : Math.Min(room, Math.Max(16, request.Sampling.MinTokens));
    }

    private async Task PumpAsync(ICompletionSource source, GenerationRequest prompt, int index)
    {
        try
        {
            await foreach (var e in source.StreamAsync(prompt, stop.Token))
                events.Writer.TryWrite((index, e));
            if (Interlocked.Decrement(ref running) == 0)
                events.Writer.TryComplete();
        }
        catch (Exception e)
        {
            events.Writer.TryComplete(e);
        } // is the reader's
    }

    /// <summary>Waits for the next pieces; false when all choices are complete.</summary>
    /// <exception cref="ApiException">The source refuses, fails or is shut down.</exception>
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
            throw Admission.Stopping();
        }
        catch (InvalidOperationException e)
        {
            throw new ApiException(StatusCodes.Status503ServiceUnavailable, e.Message);
        }
    }

    /// <summary>The next piece that has come; none before a <see cref="WaitAsync"/>.</summary>
    public bool TryRead(out Piece piece)
    {
        piece = null!;
        if (!events.Reader.TryRead(out var next))
            return false;
        var (prompt, e) = next;
        int choice = prompt * request.Sampling.Samples + e.SampleIndex;
        piece = new(choice, e.Text, e.Token < 0 ? [] : [new(e.Token, e.LogProb, e.Top)], e.Completion);
        return true;
    }

    public async ValueTask DisposeAsync()
    {
        stop.Cancel();
        await Task.WhenAll(pumps);
        stop.Dispose();
    }
}
