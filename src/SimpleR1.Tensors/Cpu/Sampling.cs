using System.Numerics;
using System.Runtime.Intrinsics;

namespace SimpleR1.Tensors.Cpu;

/// <summary>
/// Draws a token from softmax(x · scale) over logits x ≥ threshold, with the normaliser, in one pass. The draw is
/// Gumbel-max (argmax of x · scale + Gumbel noise) in its equal form as a race: argmax of pᵢ / eᵢ with eᵢ ~ Exp(1),
/// which needs no second logarithm.
/// </summary>
/// <remarks>
/// The noise of token t at output position n of a sample is a function of (sample's stream seed, n, t) alone: word (t
/// mod 64) / 16 of the Philox draw with the seed as key and counter (t / 64 · 16 + t mod 16, n, 0, 0). v = (word + ½)
/// / 2³², e = −log(1 − v). Since e ≥ v, a token with p ≤ best · v can't win: this skips almost all logarithms.
/// Because v ≥ 2⁻³³, a block whose 64 tokens all have p ≤ best · 2⁻³³ needs no random numbers either. Neither skip
/// changes which token wins.
/// </remarks>
public static unsafe class Sampling
{
    private const int Lanes = 16,
        Block = 64;
    private const int BlocksPerPartialSum = 64; // 4,096 tokens: f32 sums of 150,000 terms lose digits
    private const float Margin = 1 - 1e-5f; // the skip's own rounding must not lose a winner

    /// <summary>What is drawn from: softmax(x · scale) over x ≥ threshold.</summary>
    /// <param name="Max">The largest logit.</param>
    /// <param name="Scale">1 / temperature</param>
    public readonly record struct Distribution(float Max, float Scale, float Threshold);

    /// <summary>Which random numbers decide: those of a sample's stream at an output position.</summary>
    public readonly record struct Noise(ulong Seed, uint Position);

    /// <summary>
    /// The seed of sample <paramref name="sample"/>'s stream (SplitMix64's finalizer, Steele et al. 2014).
    /// </summary>
    public static ulong StreamSeed(ulong seed, int sample)
    {
        ulong z = seed + 0x9E3779B97F4A7C15 * ((ulong)(uint)sample + 1);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>
    /// The largest logit and the smallest token that has it. NaN where a logit is NaN or +∞; −∞ (a masked token) is
    /// allowed.
    /// </summary>
    public static (float Max, int Token) Max(float* x, int count)
    {
        var infinity = Vector512.Create(float.PositiveInfinity);
        var top = -infinity;
        var ordinary = Vector512<float>.AllBitsSet;
        int i = 0;
        for (; i <= count - Lanes; i += Lanes)
        {
            var v = Vector512.Load(x + i);
            top = Vector512.MaxNative(top, v);
            ordinary &= Vector512.LessThan(v, infinity); // false for NaN too
        }
        float max = float.NegativeInfinity;
        for (int lane = 0; lane < Lanes; lane++)
            max = MathF.Max(max, top[lane]);
        bool finite = ordinary.AsUInt32() == Vector512<uint>.AllBitsSet;
        for (; i < count; i++)
        {
            finite &= x[i] < float.PositiveInfinity;
            max = MathF.Max(max, x[i]);
        }
        if (!finite)
            return (float.NaN, -1);

        int token = 0;
        var wanted = Vector512.Create(max);
        while (token <= count - Lanes && !Vector512.EqualsAny(Vector512.Load(x + token), wanted))
            token += Lanes;
        while (x[token] != max)
            token++;
        return (max, token);
    }

    /// <summary>Σ exp((x − max) · scale) over x ≥ threshold.</summary>
    public static double SumExp(float* x, int count, float max, float scale, float threshold) =>
        new Race(new(max, scale, threshold)).Run(x, count, draw: false);

    /// <summary>Draws one token. <paramref name="top"/> is a token with the largest logit.</summary>
    /// <returns>The token, and Σ exp((x − max) · scale) over x ≥ threshold.</returns>
    public static (int Token, double Sum) Draw(float* x, int count, int top, Distribution distribution, Noise noise)
    {
        var race = new Race(distribution)
        {
            Seed = noise.Seed,
            Position = noise.Position,
            Winner = top,
        };
        race.Enter(x, count, top / Block * Block); // the likely winner first: the better the best, the more is skipped
        double sum = race.Run(x, count, draw: true);
        return (race.Winner, sum);
    }

    private ref struct Race(Distribution distribution)
    {
        private readonly float max = distribution.Max,
            scale = distribution.Scale,
            threshold = distribution.Threshold;
        private double best;
        public ulong Seed;
        public uint Position;
        public int Winner;

        public double Run(float* x, int count, bool draw)
        {
            double sum = 0;
            for (int start = 0; start < count; )
            {
                var partial = Vector512<float>.Zero;
                for (int end = Math.Min(count, start + BlocksPerPartialSum * Block); start < end; start += Block)
                    partial += draw ? Enter(x, count, start) : Sum(Weights(x, count, start));
                sum += Vector512.Sum(partial);
            }
            return sum;
        }

        /// <summary>
        /// Lets the 64 tokens from <paramref name="start"/> on race, and returns their weights' sum by lanes.
        /// </summary>
        public Vector512<float> Enter(float* x, int count, int start)
        {
            var p = Weights(x, count, start);
            var highest = Vector512.MaxNative(Vector512.MaxNative(p.A, p.B), Vector512.MaxNative(p.C, p.D));
            if (!Vector512.GreaterThanAny(highest * 8589934592f, Vector512.Create((float)best * Margin)))
                return Sum(p); // 2³³
            var (a, b, c, d) = Philox.Draw16(Seed, (uint)(start / Block * Lanes), Position);
            Enter(start, p.A, a);
            Enter(start + Lanes, p.B, b);
            Enter(start + 2 * Lanes, p.C, c);
            Enter(start + 3 * Lanes, p.D, d);
            return Sum(p);
        }

        private void Enter(int token, Vector512<float> p, Vector512<uint> random)
        {
            // · 2⁻³² + 2⁻³³.
            var v = Vector512.ConvertToSingle(random) * 2.3283064e-10f + Vector512.Create(1.1641532e-10f);
            ulong able = Vector512.GreaterThan(p, v * ((float)best * Margin)).ExtractMostSignificantBits();
            for (; able != 0; able &= able - 1)
            {
                int lane = BitOperations.TrailingZeroCount(able);
                double score = p[lane] / Exponential(random[lane]);
                if (score < best || (score == best && token + lane >= Winner))
                    continue;
                best = score;
                Winner = token + lane;
            }
        }

        private readonly (Vector512<float> A, Vector512<float> B, Vector512<float> C, Vector512<float> D) Weights(
            float* x,
            int count,
            int start
        )
        {
            x += start;
            if (count - start >= Block)
                return (Weight(x), Weight(x + Lanes), Weight(x + 2 * Lanes), Weight(x + 3 * Lanes));
            float* padded = stackalloc float[Block];
            new Span<float>(padded, Block).Fill(float.NegativeInfinity);
            new ReadOnlySpan<float>(x, count - start).CopyTo(new(padded, Block));
            return (Weight(padded), Weight(padded + Lanes), Weight(padded + 2 * Lanes), Weight(padded + 3 * Lanes));
        }

        private readonly Vector512<float> Weight(float* x)
        {
            var v = Vector512.Load(x);
            return VectorMath.Exp((v - Vector512.Create(max)) * scale)
                & Vector512.GreaterThanOrEqual(v, Vector512.Create(threshold));
        }

        private static Vector512<float> Sum(
            (Vector512<float> A, Vector512<float> B, Vector512<float> C, Vector512<float> D) p
        ) => p.A + p.B + (p.C + p.D);
    }

    private static double Exponential(uint word) => -Math.Log(1 - (word + 0.5) / 4294967296.0);

    /// <summary>The same draw in plain loops and doubles: what <see cref="Draw"/> is tested against.</summary>
    public static (int Token, double Sum) Reference(ReadOnlySpan<float> x, Distribution distribution, Noise noise)
    {
        var (max, scale, threshold) = distribution;
        int winner = -1;
        double best = 0,
            sum = 0;
        for (int t = 0; t < x.Length; t++)
        {
            if (!(x[t] >= threshold))
                continue;
            var (w0, w1, w2, w3) = Philox.Draw(noise.Seed, (uint)(t / Block * Lanes + t % Lanes), noise.Position, 0, 0);
            uint word = (t % Block / Lanes) switch
            {
                0 => w0,
                1 => w1,
                2 => w2,
                _ => w3,
            };
            double p = Math.Exp(((double)x[t] - max) * scale),
                score = p / Exponential(word);
            sum += p;
            if (score <= best)
                continue;
            best = score;
            winner = t;
        }
        return (winner, sum);
    }
}
