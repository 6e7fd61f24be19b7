using CsCheck;
using SimpleR1.Cluster.Trainer.Rollouts;
using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Cluster;

public sealed class RouterTests
{
    private static WorkerLoad[] Idle(int workers) =>
        [.. Enumerable.Range(1, workers).Select(w => new WorkerLoad(w, 0, 0))];

    [Fact]
    public void New_prompt_goes_to_the_worker_with_the_fewest_outstanding_tokens_the_first_among_equals()
    {
        var router = new Router();
        WorkerLoad[] loads = [new(1, 50, 1), new(2, 20, 1), new(3, 20, 1)];
        Assert.Equal(2, router.Choose(loads, [1], 10, 1)!.Worker);
        Assert.Equal(3, router.Choose(loads, [2], 10, 1)!.Worker);
        Assert.Equal((30L, 2), (loads[1].Tokens, loads[1].Samples));
    }

    [Fact]
    public void Repeated_prompt_goes_where_it_was_unless_that_worker_has_much_more_to_do()
    {
        var router = new Router();
        Assert.Equal(1, router.Choose(Idle(2), [7, 8], 10, 1)!.Worker);
        Assert.Equal(1, router.Choose([new(1, 160, 1), new(2, 0, 0)], [7, 8], 10, 1)!.Worker);
        // More than 16 such requests ahead.
        Assert.Equal(2, router.Choose([new(1, 161, 1), new(2, 0, 0)], [7, 8], 10, 1)!.Worker);
        Assert.Equal(2, router.Choose(Idle(2), [7, 8], 10, 1)!.Worker); // it has it now
        Assert.Equal((3L, 2L), router.Affinity);
    }

    [Fact]
    public void Nobody_remembers_a_prompt_after_the_weights_changed_or_when_its_worker_is_gone()
    {
        var router = new Router();
        router.Choose([new(2, 0, 0)], [7], 10, 1);
        Assert.Equal(1, router.Choose([new(1, 0, 0), new(3, 0, 0)], [7], 10, 1)!.Worker);
        router.Choose([new(2, 0, 0)], [7], 10, 1);
        router.Forget();
        Assert.Equal(1, router.Choose(Idle(2), [7], 10, 1)!.Worker);
    }

    [Fact]
    public void Full_queues_take_nothing_more_but_a_request_larger_than_a_queue_fits_an_empty_one()
    {
        var router = new Router();
        WorkerLoad[] loads = [new(1, 0, 3) { Window = 4 }, new(2, 9, 2) { Window = 4 }];
        Assert.Equal(2, router.Choose(loads, [1], 10, 2)!.Worker); // the less loaded one has no room for two
        Assert.Null(router.Choose(loads, [2], 10, 2));
        Assert.Equal(1, router.Choose(loads, [3], 10, 1)!.Worker);
        Assert.Null(router.Choose(loads, [4], 10, 1));
        Assert.Equal(1, router.Choose([new(1, 0, 0) { Window = 4 }], [5], 10, 9)!.Worker);
        Assert.Equal(2, router.Choose([new(1, 0, 3) { Window = 4 }, new(2, 9, 3) { Window = 8 }], [6], 10, 2)!.Worker);
    }

    /// <summary>
    /// No queue exceeds its bound by more than one request that fits no bound, and no worker gets far more than others for the sake
    /// of a prompt.
    /// </summary>
    [Fact]
    public void Queues_stay_bounded_and_loads_near_each_other_whatever_comes() =>
        Gen.Select(Gen.Int[1, 5], Gen.Select(Gen.Int[0, 6], Gen.Int[1, 4]).Array[1, 200])
            .Sample(
                (workers, requests) =>
                {
                    const int window = 16,
                        cost = 10;
                    var router = new Router();
                    WorkerLoad[] loads =
                    [
                        .. Enumerable.Range(1, workers).Select(w => new WorkerLoad(w, 0, 0) { Window = window }),
                    ];
                    foreach (var (prompt, samples) in requests)
                    {
                        long least = loads
                            .Where(l => l.Samples == 0 || l.Samples + samples <= window)
                            .Select(l => l.Tokens)
                            .DefaultIfEmpty(-1)
                            .Min();
                        var chosen = router.Choose(loads, [prompt], cost * samples, samples);
                        Assert.Equal(least < 0, chosen is null);
                        if (chosen is null)
                            continue;
                        Assert.InRange(chosen.Samples, 1, window);
                        Assert.InRange(chosen.Tokens - cost * samples - least, 0, 16 * cost * samples);
                    }
                }
            );

    [Fact]
    public void Idle_worker_repeats_what_others_have_not_finished_once_and_the_first_to_finish_counts()
    {
        var router = new Router();
        var ledger = new RolloutLedger([Request("a"), Request("b")]);
        var first = ledger.Assign(router, [new(1, 0, 0)]).Single();
        Assert.Null(ledger.Hedge(new(1, 0, 0), 100)); // its own work
        var second = ledger.Hedge(new(2, 0, 0), 100)!;
        Assert.Equal(["a", "b"], second.Requests.Select(r => r.Id));
        Assert.Null(ledger.Hedge(new(3, 0, 0), 100)); // once is enough
        Assert.True(ledger.Accept(Sample("a")));
        Assert.False(ledger.Accept(Sample("a")));
        Assert.Equal((1, 1), (ledger.MissingSamples(first), ledger.MissingSamples(second)));
        Assert.Equal(0, ledger.Release(first, "lost")); // the other one still has it
        Assert.Equal((0, 1), (ledger.MissingSamples(first), ledger.MissingSamples(second)));
        Assert.Equal(1, ledger.Release(second, "lost"));
        Assert.True(ledger.HasUnassigned);
    }

    private static GenerationRequest Request(string id) => new(id, [id[0]], new() { MaxTokens = 5 });

    private static TokenEvent Sample(string id) =>
        TokenEvent.Of(
            new()
            {
                RequestId = id,
                SampleIndex = 0,
                Tokens = [1],
                LogProbs = [0],
                WeightVersions = [0],
                FinishReason = FinishReason.Stop,
                Text = "",
            }
        );
}
