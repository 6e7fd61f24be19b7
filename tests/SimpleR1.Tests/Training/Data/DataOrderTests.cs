using CsCheck;
using SimpleR1.Training.Data;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class DataOrderTests
{
    [Fact]
    public void DataOrder_shuffles_each_epoch_and_continues_from_its_position()
    {
        var order = new DataOrder(10, 3);
        int[] all = [.. Enumerable.Range(0, 35).Select(_ => order.Next())];
        Assert.Equal(35, order.Position);
        for (int epoch = 0; epoch < 3; epoch++)
            Assert.Equal(Enumerable.Range(0, 10), all[(10 * epoch)..(10 * epoch + 10)].Order());
        Assert.NotEqual(all[..10], all[10..20]);
        for (int position = 0; position < 35; position++)
        {
            var restored = new DataOrder(10, 3) { Position = position };
            Assert.Equal(all[position..], Enumerable.Range(0, 35 - position).Select(_ => restored.Next()));
        }
        var other = new DataOrder(10, 4);
        Assert.NotEqual(all[..10], Enumerable.Range(0, 10).Select(_ => other.Next()));
    }

    [Fact]
    public void DataOrder_of_one_part_is_the_order_of_its_problems()
    {
        var plain = new DataOrder(50, 3);
        var part = new DataOrder([new(50, 0.7)], 3);
        Assert.Equal(
            Enumerable.Range(0, 200).Select(_ => plain.Next()),
            Enumerable.Range(0, 200).Select(_ => part.Next())
        );
    }

    [Fact]
    public void DataOrder_of_weighted_parts_keeps_shares_and_epochs_and_continues_from_any_position() =>
        Gen.Select(Gen.Int[1, 20], Gen.Double[0.1, 5])
            .Select(p => new DataPart(p.Item1, p.Item2))
            .Array[2, 4]
            .Select(Gen.ULong, Gen.Int[0, 200])
            .Sample(
                (parts, seed, position) =>
                {
                    var order = new DataOrder(parts, seed);
                    int[] all = [.. Enumerable.Range(0, 300).Select(_ => order.Next())];
                    int first = 0;
                    foreach (var part in parts)
                    {
                        int[] own = [.. all.Where(i => i >= first && i < first + part.Count)];
                        double share = 300 * part.Weight / parts.Sum(p => p.Weight);
                        Assert.InRange(own.Length, share - parts.Length, share + parts.Length);
                        foreach (int[] epoch in own.Chunk(part.Count))
                            Assert.Equal(epoch.Length, epoch.Distinct().Count());
                        first += part.Count;
                    }
                    var resumed = new DataOrder(parts, seed) { Position = position };
                    Assert.Equal(all[position], resumed.Next());
                    Assert.Equal(all[17], resumed.At(17));
                },
                iter: 200
            );

    [Fact]
    public void DataOrder_refuses_empty_parts_and_weights_that_are_not_positive()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => new DataOrder(0, 1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new DataOrder([new(1, 0)], 1));
    }
}
