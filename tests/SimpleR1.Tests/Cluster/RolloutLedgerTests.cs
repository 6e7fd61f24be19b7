using CsCheck;
using SimpleR1.Cluster.Trainer;
using SimpleR1.Cluster.Trainer.Rollouts;
using SimpleR1.Inference;
using Xunit;

namespace SimpleR1.Tests.Cluster;

public sealed class RolloutLedgerTests
{
    private static GenerationRequest Request(int id, int samples = 1, int prompt = 3, int maxTokens = 10) =>
        new($"r{id}", [id, .. new int[prompt - 1]], new() { Samples = samples, MaxTokens = maxTokens });

    /// <summary>With room for everything.</summary>
    private static Router Anyone => new();

    private static TokenEvent Sample(string id, int index) =>
        TokenEvent.Of(
            new()
            {
                RequestId = id,
                SampleIndex = index,
                Tokens = [1],
                LogProbs = [0],
                WeightVersions = [0],
                FinishReason = FinishReason.Stop,
                Text = "",
            }
        );

    private static TokenEvent Token(string id, int index) =>
        new()
        {
            RequestId = id,
            SampleIndex = index,
            Token = 9,
            LogProb = -2,
            WeightVersion = 4,
            Text = "",
        };

    [Fact]
    public void Assign_gives_each_request_to_the_least_loaded_worker_in_order()
    {
        var ledger = new RolloutLedger([
            Request(0, maxTokens: 100),
            Request(1),
            Request(2),
            Request(3, maxTokens: 200),
            Request(4),
        ]);
        var shares = ledger.Assign(Anyone, [new(1, 0, 0), new(2, 0, 0), new(3, 50, 0)]).ToDictionary(s => s.Worker);
        Assert.Equal(["r0"], shares[1].Requests.Select(r => r.Id)); // a tie goes to the first
        Assert.Equal(["r1", "r2", "r3"], shares[2].Requests.Select(r => r.Id)); // 13, 26, 229
        Assert.Equal(["r4"], shares[3].Requests.Select(r => r.Id));
        Assert.False(ledger.HasUnassigned);
        Assert.Equal(13 + 13 + 203, ledger.OutstandingTokens(shares[2]));
        Assert.Equal(3, ledger.MissingSamples(shares[2]));
    }

    [Fact]
    public void Outstanding_falls_by_the_sample_and_ends_at_zero()
    {
        var ledger = new RolloutLedger([Request(0, samples: 2, prompt: 5, maxTokens: 10)]);
        var share = ledger.Assign(Anyone, [new(1, 0, 0)]).Single();
        Assert.Equal(25, ledger.OutstandingTokens(share));
        Assert.True(ledger.Accept(Sample("r0", 1)));
        Assert.Equal(15, ledger.OutstandingTokens(share));
        Assert.False(ledger.Accept(Sample("r0", 1)));
        Assert.True(ledger.Accept(Sample("r0", 0)));
        Assert.Equal(0, ledger.OutstandingTokens(share));
        Assert.True(ledger.Complete);
    }

    [Fact]
    public void Request_that_outlives_three_workers_is_an_error_that_names_it()
    {
        var ledger = new RolloutLedger([Request(7)]);
        for (int loss = 1; loss < RolloutLedger.MaxLosses; loss++)
            Assert.Equal(1, ledger.Release(ledger.Assign(Anyone, [new(1, 0, 0)]).Single(), ""));
        var last = ledger.Assign(Anyone, [new(1, 0, 0)]).Single();
        var error = Assert.Throws<WorkersLostException>(() => ledger.Release(last, "it ran out of memory"));
        Assert.Contains("'r7'", error.Message);
        Assert.Contains("ran out of memory", error.Message);
    }

    [Fact]
    public void Deaths_count_in_a_row_only_while_nothing_gets_on()
    {
        var ledger = new RolloutLedger([Request(0), Request(1, samples: 40)]);
        void Die() =>
            Assert.Equal(
                2,
                ledger.Release(ledger.Assign(Anyone, [new(1, 0, 0)]).Single(), "it was killed", killed: true)
            );
        for (int i = 0; i < 30; i++) // somebody kills workers, and the batch gets on all the same
        {
            Die();
            if (i % 5 == 4)
                Assert.True(ledger.Accept(Sample("r1", i)));
        }
        for (int i = 0; i < RolloutLedger.MaxDeaths - 1; i++)
            Die();
        var last = ledger.Assign(Anyone, [new(1, 0, 0)]).Single();
        Assert.Contains(
            "'r0'",
            Assert.Throws<WorkersLostException>(() => ledger.Release(last, "it was killed", killed: true)).Message
        );
    }

    [Fact]
    public void Samples_that_nobody_asked_for_and_equal_ids_are_errors()
    {
        var ledger = new RolloutLedger([Request(0)]);
        Assert.Throws<InvalidOperationException>(() => ledger.Accept(Sample("r9", 0)));
        Assert.Throws<InvalidOperationException>(() => ledger.Accept(Sample("r0", 1)));
        Assert.Contains(
            "'r1'",
            Assert.Throws<ArgumentException>(() => new RolloutLedger([Request(1), Request(1)])).Message
        );
        Assert.Throws<ArgumentException>(() => new RolloutLedger([Request(1, samples: 0)]));
    }

    [Fact]
    public void What_came_of_a_lost_worker_is_not_asked_for_again()
    {
        var ledger = new RolloutLedger([
            Request(0, samples: 3) with
            {
                PartialSamples =
                [
                    new(0),
                    new(2)
                    {
                        Tokens = [8],
                        LogProbs = [-1],
                        WeightVersions = [3],
                    },
                ],
            },
            Request(1, samples: 2),
        ]);
        Assert.False(ledger.Complete);
        var share = ledger.Assign(Anyone, [new(1, 0, 0)]).Single();
        Assert.Null(share.Requests[1].PartialSamples);
        Assert.True(ledger.Accept(Token("r0", 2)));
        Assert.True(ledger.Accept(Sample("r1", 0)));
        Assert.Equal(2, ledger.Release(share, "it was killed"));
        var again = ledger.Assign(Anyone, [new(2, 0, 0)]).Single().Requests;
        Assert.Equal([0, 2], again[0].PartialSamples!.Select(p => p.Index));
        var part = again[0].PartialSamples![1];
        Assert.Equal([8, 9], part.Tokens);
        Assert.Equal([-1, -2], part.LogProbs);
        Assert.Equal([3, 4], part.WeightVersions);
        Assert.Equal([1], again[1].PartialSamples!.Select(p => p.Index));
        Assert.Throws<InvalidOperationException>(() => ledger.Accept(Sample("r0", 1))); // not one of those to complete
    }

    [Fact]
    public void What_no_worker_has_is_broken_off_with_what_is_known()
    {
        var ledger = new RolloutLedger([Request(0, samples: 2), Request(1)]);
        var share = ledger.Assign(new(), [new(1, 0, 0) { Window = 2 }]).Single();
        Assert.Equal(["r0"], share.Requests.Select(r => r.Id));
        Assert.Equal(
            [("r1", 0, 0)],
            ledger.CancelUnassigned().Select(c => (c.RequestId, c.SampleIndex, c.Tokens.Length))
        );
        Assert.Empty(ledger.CancelUnassigned());
        Assert.True(ledger.Accept(Token("r0", 1)));
        ledger.Release(share, null);
        var ended = ledger.CancelUnassigned();
        Assert.Equal([("r0", 0, 0), ("r0", 1, 1)], ended.Select(c => (c.RequestId, c.SampleIndex, c.Tokens.Length)));
        Assert.All(ended, c => Assert.Equal(FinishReason.Aborted, c.FinishReason));
        Assert.True(ledger.Complete);
    }

    /// <summary>Workers finish samples in any order and die, and their replacements are asked for the rest.</summary>
    [Fact]
    public void Every_sample_is_accepted_exactly_once_whatever_dies() =>
        Gen.Select(Gen.Int[1, 4].Array[1, 12], Gen.Int[1, 4], Gen.Int)
            .Sample(
                (samples, workers, seed) =>
                {
                    var random = new Random(seed);
                    var ledger = new RolloutLedger([.. samples.Select((n, i) => Request(i, n))]);
                    var todo = Enumerable.Range(0, workers).Select(_ => new List<(string Id, int Index)>()).ToArray();
                    var shares = new List<RolloutShare>();
                    var losses = new Dictionary<string, int>();
                    var accepted = new HashSet<(string, int)>();
                    while (!ledger.Complete)
                    {
                        foreach (
                            var share in ledger.Assign(
                                Anyone,
                                [.. Enumerable.Range(0, workers).Select(w => new WorkerLoad(w, todo[w].Count, 0))]
                            )
                        )
                        {
                            shares.Add(share);
                            todo[share.Worker]
                                .AddRange(
                                    share.Requests.SelectMany(r =>
                                        (
                                            r.PartialSamples?.Select(p => p.Index)
                                            ?? Enumerable.Range(0, r.Sampling.Samples)
                                        ).Select(i => (r.Id, i))
                                    )
                                );
                        }
                        int chosen = random.Next(workers);
                        bool mayDie = todo[chosen]
                            .All(t => losses.GetValueOrDefault(t.Id) < RolloutLedger.MaxLosses - 1);
                        if (mayDie && random.Next(6) == 0)
                        {
                            foreach (string id in todo[chosen].Select(t => t.Id).Distinct())
                                losses[id] = losses.GetValueOrDefault(id) + 1;
                            foreach (var share in shares.FindAll(s => s.Worker == chosen))
                                ledger.Release(share, "");
                            todo[chosen].Clear();
                        }
                        else if (todo[chosen].Count > 0)
                        {
                            var (id, index) = todo[chosen][random.Next(todo[chosen].Count)];
                            todo[chosen].Remove((id, index));
                            Assert.Equal(accepted.Add((id, index)), ledger.Accept(Sample(id, index)));
                        }
                    }
                    Assert.Equal(samples.Sum(), accepted.Count);
                }
            );
}
