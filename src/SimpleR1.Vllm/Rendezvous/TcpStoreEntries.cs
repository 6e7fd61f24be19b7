using System.Globalization;
using System.Text;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>
/// The entries of a TCPStore, and those who wait for keys. All methods may be called from any thread.
/// </summary>
internal sealed class TcpStoreEntries
{
    private const int MaxEntries = 4096;

    private readonly Lock gate = new();
    private readonly Dictionary<string, byte[]> values = [];
    private readonly Dictionary<object, Wait> waits = []; // by who waits

    /// <param name="Missing">Keys that are awaited.</param>
    private sealed record Wait(HashSet<string> Missing, Action Reached);

    public long Count
    {
        get
        {
            lock (gate)
                return values.Count;
        }
    }

    /// <exception cref="InvalidDataException">The store is full.</exception>
    public void Set(string key, byte[] value)
    {
        lock (gate)
            Store(key, value);
    }

    /// <exception cref="InvalidDataException">There is no such key.</exception>
    public byte[] Get(string key)
    {
        lock (gate)
            return values.TryGetValue(key, out byte[]? value) ? value : throw new InvalidDataException();
    }

    public bool ContainsAll(IEnumerable<string> keys)
    {
        lock (gate)
            return keys.All(values.ContainsKey);
    }

    public bool Remove(string key)
    {
        lock (gate)
            return values.Remove(key);
    }

    /// <summary>Adds to a counter, which is kept as decimal text like PyTorch's.</summary>
    /// <returns>The new value.</returns>
    /// <exception cref="InvalidDataException">The key holds no number, or the store is full.</exception>
    public long Add(string key, long amount)
    {
        lock (gate)
        {
            long sum = amount;
            if (values.TryGetValue(key, out byte[]? before))
                sum += long.TryParse(before, CultureInfo.InvariantCulture, out long number)
                    ? number
                    : throw new InvalidDataException();
            Store(key, Encoding.ASCII.GetBytes(sum.ToString(CultureInfo.InvariantCulture)));
            return sum;
        }
    }

    /// <summary>
    /// Sets the key where it holds the expected value; an empty one stands for a key that is not there.
    /// </summary>
    /// <returns>The value that the key holds then; the expected one where it holds none.</returns>
    public byte[] CompareSet(string key, byte[] expected, byte[] wanted)
    {
        lock (gate)
        {
            bool matches = values.TryGetValue(key, out byte[]? current)
                ? current.AsSpan().SequenceEqual(expected)
                : expected.Length == 0;
            if (matches)
                Store(key, wanted);
            return values.GetValueOrDefault(key, expected);
        }
    }

    /// <summary>
    /// Calls <paramref name="reached"/> once all keys are there: at once, or from the thread that sets the last.
    /// </summary>
    /// <param name="waiter">Who waits; a second wait replaces the first.</param>
    public void WaitFor(object waiter, IEnumerable<string> keys, Action reached)
    {
        lock (gate)
        {
            waits.Remove(waiter);
            HashSet<string> missing = [.. keys.Where(key => !values.ContainsKey(key))];
            if (missing.Count == 0)
                reached();
            else
                waits.Add(waiter, new(missing, reached));
        }
    }

    /// <summary>Ends a wait; <paramref name="ended"/> is called while no wait can be reached.</summary>
    public void CancelWait(object waiter, Action ended)
    {
        lock (gate)
        {
            waits.Remove(waiter);
            ended();
        }
    }

    private void Store(string key, byte[] value)
    {
        if (values.Count == MaxEntries && !values.ContainsKey(key))
            throw new InvalidDataException();
        values[key] = value;
        foreach (var (waiter, wait) in waits.ToArray())
            if (wait.Missing.Remove(key) && wait.Missing.Count == 0)
            {
                waits.Remove(waiter);
                wait.Reached();
            }
    }
}
