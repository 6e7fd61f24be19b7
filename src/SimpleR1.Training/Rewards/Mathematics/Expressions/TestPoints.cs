using System.Numerics;
using SimpleR1.Training.Data;

namespace SimpleR1.Training.Rewards.Mathematics.Expressions;

/// <summary>Values of unknowns at which expressions are compared.</summary>
internal static class TestPoints
{
    public const int Count = 8;

    /// <summary>
    /// The unknowns' values at a point: real, positive at the first points, negative at the last, the same in every
    /// run.
    /// </summary>
    public static Func<string, Complex> At(int point) =>
        name =>
        {
            ulong state = (ulong)point * 0x9E3779B97F4A7C15 + 1;
            foreach (char c in name)
                state = SplitMix64.Mix(state ^ c);
            double value = 0.3 + 2.5 * new SplitMix64(state).NextDouble();
            bool isNegative = point == Count - 1 || point >= Count / 2 && (state & 1) != 0;
            return isNegative ? -value : value;
        };
}
