using SimpleR1.Training.Data.Layouts;
using SimpleR1.Training.Data.Rows;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Data;

/// <summary>Problems and texts from files of any format and from the built-in generators.</summary>
public static class Dataset
{
    private delegate T? Layout<T>(DataRow row, UnusableRows unusable)
        where T : class;

    /// <summary>All problems of a source, in its order; those of several sources one after the other.</summary>
    /// <param name="log">Receives a line about rows that are left out.</param>
    /// <exception cref="FileNotFoundException">A file does not exist.</exception>
    /// <exception cref="InvalidDataException">
    /// A file or a row can't be used; the message names file, row and column.
    /// </exception>
    public static IReadOnlyList<Problem> Load(DataSource source, Action<string>? log = null) =>
        Load(
            source,
            log,
            problem => problem,
            (one, name, rows) => new RowLayout(one, name, rows).Problem,
            (problem, name) => problem with { Source = name }
        );

    /// <summary>
    /// All texts of a source, as <see cref="Load(DataSource, Action{string}?)"/> orders problems. Of a solution with a
    /// gold answer at its end, all is learnt.
    /// </summary>
    /// <inheritdoc cref="Load(DataSource, Action{string}?)"/>
    public static IReadOnlyList<Demonstration> LoadTexts(DataSource source, Action<string>? log = null) =>
        Load(
            source,
            log,
            problem => new Demonstration(problem.Question, problem.Answer),
            (one, name, rows) => new TextLayout(one, name, rows).Demonstration,
            (text, name) => text with { Source = name }
        );

    private static List<T> Load<T>(
        DataSource source,
        Action<string>? log,
        Func<Problem, T> generated,
        Func<DataSource, string, IReadOnlyList<DataRow>, Layout<T>> layout,
        Func<T, string, T> named
    )
        where T : class
    {
        var all = new List<T>();
        foreach (var (name, one) in DataMix.Named(source))
        {
            var items = one.Generator is not null
                ? [.. Generated(one).Select(generated)]
                : FromFiles(one, layout, log ?? (_ => { }));
            all.AddRange(items.Select(item => named(item, name)));
        }
        return all;
    }

    private static IReadOnlyList<Problem> Generated(DataSource source)
    {
        string generator = source.Generator!;
        int count = source.Count ?? throw new ArgumentException("a generator needs a count");
        return Slice(Generators.Make(generator, count, source.Seed, source.Options), source, generator);
    }

    private static List<T> FromFiles<T>(
        DataSource source,
        Func<DataSource, string, IReadOnlyList<DataRow>, Layout<T>> layout,
        Action<string> log
    )
        where T : class
    {
        string path = source.Path ?? throw new ArgumentException("a data source needs a path or a generator");
        var rows = DataFiles.Find(path, source.Split).SelectMany(RowReader.Read).ToList();
        var read = layout(source, path, rows);

        var used = Slice(rows, source, path);
        var unusable = new UnusableRows();
        var items = new List<T>(used.Count);
        foreach (var row in used)
            if (read(row, unusable) is { } item)
                items.Add(item);
        if (unusable.IsEmpty)
            return items;

        string message = $"{path}: {unusable.Describe(used.Count)}";
        if (items.Count == 0 || source.RequireComplete)
            throw new InvalidDataException(
                message
                    + ". Are the columns right (columns: {question: ..., answer: ...})? Else mend or remove the rows"
            );
        log(message + "; they are left out");
        return items;
    }

    /// <summary>Shuffle, skip, take.</summary>
    private static IReadOnlyList<T> Slice<T>(IReadOnlyList<T> all, DataSource source, string name)
    {
        var rows = all.ToArray();
        if (source.Shuffle)
            new SplitMix64(SplitMix64.Mix(source.Seed)).Shuffle(rows.AsSpan());
        if (source.Skip >= rows.Length)
            throw new InvalidDataException(
                $"{name}: nothing is left of {rows.Length} rows after skipping {source.Skip}"
            );
        if (source.Take is { } take && (long)source.Skip + take > rows.Length)
            throw new InvalidDataException(
                $"{name}: {source.Skip} skipped and {take} taken are more than its {rows.Length} rows"
            );
        return rows[source.Skip..(source.Skip + (source.Take ?? rows.Length - source.Skip))];
    }
}
