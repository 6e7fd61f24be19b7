using System.Diagnostics;
using static System.FormattableString;

namespace SimpleR1.Training.Rewards;

/// <summary>
/// Calls one reward: on a thread of the pool, so that collecting samples never waits for it; within its time limit;
/// and with errors that name it. A call that ignores its cancellation can't be ended from here: it is left
/// behind, and may overlap with the calls after it.
/// </summary>
internal sealed class RewardCaller(WeightedReward reward, Action<string> log)
{
    private const int MostAbandoned = 32; // each may hold a thread for ever

    private readonly SemaphoreSlim turns = new(reward.Function.Overlaps ? reward.Limits.Concurrency : 1);
    private int abandoned;

    /// <summary>The reward's values, one for each input; null after its time limit, when that is worth 0.</summary>
    /// <exception cref="RewardException">
    /// The reward threw, returned something else than finite numbers, or ran into its time limit.
    /// </exception>
    public async Task<IReadOnlyList<double>?> CallAsync(IReadOnlyList<RewardInput> inputs, CancellationToken stop)
    {
        await turns.WaitAsync(stop);
        try
        {
            using var cancel = CancellationTokenSource.CreateLinkedTokenSource(stop);
            var token = cancel.Token;
            var call = Task.Run(() => reward.Function.Call(inputs, token).AsTask(), CancellationToken.None);

            bool inTime = await EndsAsync(call, reward.Limits.SlowAfter, stop);
            if (!inTime)
            {
                log(Slow(inputs));
                inTime = await EndsAsync(call, reward.Limits.Timeout - reward.Limits.SlowAfter, stop);
            }
            if (inTime)
                return await CheckAsync(call, inputs, stop);

            await cancel.CancelAsync();
            Abandon(call);
            return AtTimeout(inputs);
        }
        finally
        {
            turns.Release();
        }
    }

    /// <exception cref="OperationCanceledException">The run stops; the call is left to end by itself.</exception>
    private static async Task<bool> EndsAsync(Task call, TimeSpan time, CancellationToken stop)
    {
        using var timer = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var delay = Task.Delay(time, timer.Token);
        bool ended = await Task.WhenAny(call, delay) == call;
        await timer.CancelAsync();
        if (!ended)
            stop.ThrowIfCancellationRequested();
        return ended;
    }

    private async Task<IReadOnlyList<double>> CheckAsync(
        Task<IReadOnlyList<double>> call,
        IReadOnlyList<RewardInput> inputs,
        CancellationToken stop
    )
    {
        IReadOnlyList<double> values;
        try
        {
            values = await call;
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            throw;
        }
        catch (Exception e)
        {
            throw Failure($"the reward '{reward.Name}' threw {e.GetType().Name}: {e.Message}{Line(e)}", inputs, e);
        }
        if (values is null || values.Count != inputs.Count)
            throw Failure(
                $"the reward '{reward.Name}' returned {values?.Count ?? 0} numbers for a group of {inputs.Count}",
                inputs
            );
        for (int i = 0; i < values.Count; i++)
        {
            if (!double.IsFinite(values[i]))
                throw Failure(
                    Invariant($"the reward '{reward.Name}' returned {values[i]}; it must return a finite number"),
                    [inputs[i]]
                );
        }
        return values;
    }

    private IReadOnlyList<double>? AtTimeout(IReadOnlyList<RewardInput> inputs)
    {
        string limit = Invariant($"the reward '{reward.Name}' took longer than {reward.Limits.Timeout.TotalSeconds} s");
        if (reward.Limits.OnTimeout == TimeoutAction.Stop)
            throw Failure($"{limit}; set its timeout_seconds, or on_timeout to zero", inputs);
        if (Volatile.Read(ref abandoned) > MostAbandoned)
            throw Failure(
                $"{limit}, and {MostAbandoned} earlier calls have not ended either, although cancelled",
                inputs
            );
        log($"{limit}: 0 for the completion that begins: {Beginning(inputs)}");
        return null;
    }

    private void Abandon(Task call)
    {
        Interlocked.Increment(ref abandoned);
        call.ContinueWith(
            ended =>
            {
                _ = ended.Exception; // observed: the call's result is not needed
                Interlocked.Decrement(ref abandoned);
            },
            TaskScheduler.Default
        );
    }

    private string Slow(IReadOnlyList<RewardInput> inputs) =>
        $"the reward '{reward.Name}' has taken "
        + Invariant($"{reward.Limits.SlowAfter.TotalSeconds} s of {reward.Limits.Timeout.TotalSeconds} s")
        + $" for the completion that begins: {Beginning(inputs)}";

    private static string Beginning(IReadOnlyList<RewardInput> inputs)
    {
        string text = inputs[0].Completion.ReplaceLineEndings(" ");
        return text.Length <= 100 ? text : text[..100] + " …";
    }

    private RewardException Failure(string what, IReadOnlyList<RewardInput> inputs, Exception? inner = null) =>
        new($"{what}\n{Describe(inputs[0])}", inner) { Reward = reward.Name, Inputs = inputs };

    private static string Line(Exception e) =>
        new StackTrace(e, fNeedFileInfo: true).GetFrames().FirstOrDefault(f => f.GetFileName() is not null) is { } frame
            ? $" ({frame.GetFileName()}:{frame.GetFileLineNumber()})"
            : "";

    private static string Describe(RewardInput input) =>
        $"  problem: {Excerpt(input.Problem.Question)}\n"
        + $"  gold answer: {Excerpt(input.Problem.Answer)}\n"
        + $"  completion: {Excerpt(input.Completion)}";

    private static string Excerpt(string text) => text.Length <= 300 ? text : $"{text[..150]} … {text[^150..]}";
}
