using System.Globalization;
using SimpleR1.Training.Data.Rows;

namespace SimpleR1.Training.Data.Layouts;

/// <summary>Rows without a question or an answer: counted and named, never taken.</summary>
internal sealed class UnusableRows
{
    private const int MostNamed = 5;

    private readonly Dictionary<string, List<string>> places = []; // what is missing → where
    private int count;

    public bool IsEmpty => count == 0;

    /// <param name="missing">"no answer".</param>
    public void Add(DataRow row, string missing)
    {
        count++;
        if (!places.TryGetValue(missing, out var where))
            places[missing] = where = [];
        where.Add(row.Place.StartsWith(':') ? $"{row.File} line {row.Place[1..]}" : row.Origin);
    }

    /// <summary>"12 of 7,473 rows can't be used: no answer in train.jsonl line 3, …".</summary>
    public string Describe(int rows) =>
        string.Create(CultureInfo.InvariantCulture, $"{count:N0} of {rows:N0} rows can't be used: ")
        + string.Join("; ", places.Select(p => $"{p.Key} in {Named(p.Value)}"));

    private static string Named(List<string> where) =>
        string.Join(", ", where.Take(MostNamed))
        + (where.Count > MostNamed ? $" and {where.Count - MostNamed} more" : "");
}
