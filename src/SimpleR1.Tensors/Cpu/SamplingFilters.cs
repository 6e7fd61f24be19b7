using System.Runtime.Intrinsics;

namespace SimpleR1.Tensors.Cpu;

/// <summary>
/// Top-k, top-p and min-p as one number: the smallest logit that is kept. Found by selection, never by sorting the
/// vocabulary. Logits equal to that number are all kept, so that ties may keep more than k tokens and more than the
/// mass p.
/// </summary>
public static unsafe class SamplingFilters
{
    private const int Lanes = 16,
        Block = 64;

    /// <param name="Max">The largest logit.</param>
    /// <param name="Scale">1 / temperature</param>
    /// <param name="TopK">0 keeps all.</param>
    public readonly record struct Settings(float Max, float Scale, int TopK, double TopP, double MinP);

    /// <summary>
    /// Top-k first, then top-p on the mass that is left, then min-p (which scaling the mass does not change).
    /// </summary>
    /// <param name="x">[count] logits, not yet scaled</param>
    public static float Threshold(float* x, int count, Settings settings)
    {
        int topK = settings.TopK;
        float threshold = topK > 0 && topK < count ? KthLargest(x, count, topK) : float.NegativeInfinity;
        if (settings.TopP < 1)
            threshold = Math.Max(threshold, Nucleus(x, count, threshold, settings));
        if (settings.MinP > 0)
            threshold = Math.Max(threshold, (float)(settings.Max + Math.Log(settings.MinP) / settings.Scale));
        return threshold;
    }

    /// <summary>The k-th largest of x, 1 ≤ k ≤ count.</summary>
    public static float KthLargest(float* x, int count, int k)
    {
        float* work = Scratch.Rent(count + Block);
        float least = float.NegativeInfinity;
        int blocks = count / Block;

        // The k-th largest of the blocks' maxima is a lower bound that leaves few to select from.
        if (blocks >= k)
        {
            for (int b = 0; b < blocks; b++)
            {
                var max = Vector512.Load(x + b * Block);
                for (int i = Lanes; i < Block; i += Lanes)
                    max = Vector512.MaxNative(max, Vector512.Load(x + b * Block + i));
                work[b] = Largest(max);
            }
            least = Select(work, blocks, k);
        }
        return Select(work, Gather(x, count, least, work), k);
    }

    /// <summary>
    /// The smallest logit of the smallest set of most probable tokens (among x ≥ threshold) whose mass reaches top-p.
    /// </summary>
    private static float Nucleus(float* x, int count, float threshold, Settings settings)
    {
        float max = settings.Max,
            scale = settings.Scale;
        double topP = settings.TopP;
        double total = Sampling.SumExp(x, count, max, scale, threshold),
            wanted = topP * total;

        // Tokens below this weight have less than 1 − p of the mass together: the set never needs them.
        double least = max + Math.Log((1 - topP) * total / count) / scale;
        float* work = Scratch.Rent(2L * count + Block),
            weights = work + count;
        int left = Gather(x, count, Math.Max(threshold, (float)Math.Min(least - 1e-3 / scale, max)), work);
        for (int i = 0; i < left; i++)
            weights[i] = MathF.Exp((work[i] - max) * scale);

        // Quickselect by mass: [from, to) is undecided, and all before it is in the set.
        int from = 0,
            to = left;
        float smallest = max;
        while (from < to)
        {
            float pivot = Pivot(work, from, to);
            int above = from,
                equal = from; // [from, above) > pivot, [above, equal) = pivot
            double massAbove = 0,
                massEqual = 0;
            for (int i = from; i < to; i++)
            {
                if (work[i] < pivot)
                    continue;
                if (work[i] == pivot)
                {
                    massEqual += weights[i];
                    Swap(work, weights, i, equal++);
                    continue;
                }
                massAbove += weights[i];
                Swap(work, weights, i, equal);
                Swap(work, weights, equal++, above++);
            }
            if (massAbove >= wanted)
                to = above;
            else if (massAbove + massEqual >= wanted)
                return pivot;
            else
            {
                wanted -= massAbove + massEqual;
                from = equal;
                smallest = pivot;
            }
        }
        return smallest; // rounding left a little mass that no token has
    }

    /// <summary>Copies all x ≥ least to <paramref name="to"/>; returns how many.</summary>
    private static int Gather(float* x, int count, float least, float* to)
    {
        int found = 0,
            i = 0;
        var bound = Vector512.Create(least);
        for (; i <= count - Lanes; i += Lanes)
        {
            if (!Vector512.GreaterThanOrEqualAny(Vector512.Load(x + i), bound))
                continue;
            for (int j = i; j < i + Lanes; j++)
                if (x[j] >= least)
                    to[found++] = x[j];
        }
        for (; i < count; i++)
            if (x[i] >= least)
                to[found++] = x[i];
        return found;
    }

    /// <summary>The k-th largest, by Hoare's quickselect; reorders <paramref name="work"/>.</summary>
    private static float Select(float* work, int count, int k)
    {
        int from = 0,
            to = count;
        while (true)
        {
            float pivot = Pivot(work, from, to);
            int above = from,
                equal = from;
            for (int i = from; i < to; i++)
            {
                float value = work[i];
                if (value < pivot)
                    continue;
                (work[i], work[equal]) = (work[equal], value);
                if (value > pivot)
                    (work[equal], work[above]) = (work[above], work[equal]);
                if (value > pivot)
                    above++;
                equal++;
            }
            if (k <= above - from)
                to = above;
            else if (k <= equal - from)
                return pivot;
            else
            {
                k -= equal - from;
                from = equal;
            }
        }
    }

    /// <summary>Median of three.</summary>
    private static float Pivot(float* work, int from, int to)
    {
        float a = work[from],
            b = work[from + (to - from) / 2],
            c = work[to - 1];
        return Math.Max(Math.Min(a, b), Math.Min(Math.Max(a, b), c));
    }

    private static void Swap(float* work, float* weights, int i, int j) =>
        (work[i], work[j], weights[i], weights[j]) = (work[j], work[i], weights[j], weights[i]);

    private static float Largest(Vector512<float> v)
    {
        float largest = v[0];
        for (int i = 1; i < Lanes; i++)
            largest = MathF.Max(largest, v[i]);
        return largest;
    }
}
