namespace SimpleR1.Training.Runs.Results;

/// <summary>Short names of recipe keys: <c>optimizer.learning_rate</c> is learning_rate.</summary>
public static class KeyNames
{
    /// <summary>The last part of each key; the whole key where two of them would have the same name.</summary>
    public static IReadOnlyDictionary<string, string> Of(IReadOnlyCollection<string> keys)
    {
        var shared = keys.CountBy(Last).Where(c => c.Value > 1).Select(c => c.Key).ToHashSet();
        return keys.ToDictionary(key => key, key => shared.Contains(Last(key)) ? key : Last(key));
    }

    /// <summary>The last part that is no index: of <c>rewards.0.weight</c> it is weight, of <c>rewards.0</c> all.</summary>
    private static string Last(string key)
    {
        string last = key[(key.LastIndexOf('.') + 1)..];
        return int.TryParse(last, out _) ? key : last;
    }
}
