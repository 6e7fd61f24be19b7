using Microsoft.Extensions.FileSystemGlobbing;
using Microsoft.Extensions.FileSystemGlobbing.Abstractions;

namespace SimpleR1.Training.Data.Rows;

/// <summary>The files that a source's path means: one file, those of a pattern, or the shards of a folder.</summary>
internal static class DataFiles
{
    /// <summary>Files of a Hugging Face dataset folder that describe it and hold no rows.</summary>
    private static readonly string[] Descriptions =
    [
        "dataset_info.json",
        "dataset_infos.json",
        "dataset_dict.json",
        "state.json",
    ];

    public static bool IsPattern(string path) => path.Contains('*');

    /// <summary>The files in the order of their names.</summary>
    /// <param name="split">Part of a dataset, such as train; null when the path holds only one.</param>
    /// <exception cref="FileNotFoundException">No file has this path.</exception>
    /// <exception cref="InvalidDataException">Nothing fits, or what fits is of several splits, folders or formats.</exception>
    public static IReadOnlyList<string> Find(string path, string? split)
    {
        if (File.Exists(path))
            return [path];
        if (Directory.Exists(path))
            return Shards(path, "**/*", split);
        if (!IsPattern(path))
            throw new FileNotFoundException($"data file not found: {Path.GetFullPath(path)}", path);

        string fixedPart = path[..path.IndexOf('*')];
        int slash = fixedPart.LastIndexOf('/');
        string folder = slash < 0 ? "." : path[..Math.Max(slash, 1)];
        if (!Directory.Exists(folder))
            throw new FileNotFoundException($"data folder not found: {Path.GetFullPath(folder)}", folder);
        return Shards(folder, path[(slash + 1)..], split);
    }

    private static List<string> Shards(string folder, string pattern, string? split)
    {
        var all = Matching(folder, pattern);
        var files = all.Where(f => RowReader.Extension(f) is not null && !IsDescription(f)).ToList();
        if (files.Count == 0)
            throw new InvalidDataException(
                $"{folder}: no data files{(pattern == "**/*" ? "" : $" for '{pattern}'")}; expected {RowReader.Formats}, "
                    + $"found {Found(all)}"
            );
        if (split is not null)
        {
            var known = Splits(files);
            files = files.FindAll(f => DataSplit.Of(f) == DataSplit.Normal(split));
            if (files.Count == 0)
                throw new InvalidDataException($"{folder}: no files of split '{split}'; there are {known}");
        }
        if (pattern == "**/*")
            CheckSame(folder, files);
        return [.. files.Select(f => Path.Combine(folder, f))];
    }

    /// <summary>Paths below a folder, without hidden ones, in the order of their names.</summary>
    private static List<string> Matching(string folder, string pattern)
    {
        var matcher = new Matcher(StringComparison.Ordinal).AddInclude(pattern);
        return
        [
            .. matcher
                .Execute(new DirectoryInfoWrapper(new(folder)))
                .Files.Select(f => f.Path)
                .Where(f => !f.Split('/').Any(part => part.StartsWith('.') || part.StartsWith('_')))
                .Order(StringComparer.Ordinal),
        ];
    }

    /// <summary>A folder is one dataset: files of several splits, subsets or formats are never mixed.</summary>
    private static void CheckSame(string folder, List<string> files)
    {
        if (files.Select(DataSplit.Of).Distinct().Count() > 1)
            throw new InvalidDataException(
                $"{folder}: holds the splits {Splits(files)}; say which with split: ..., or give a pattern such as "
                    + $"{Path.Combine(folder, "train-*.parquet")}"
            );
        var subsets = files.Select(DataSplit.Subset).Distinct().ToList();
        if (subsets.Count > 1)
            throw new InvalidDataException(
                $"{folder}: holds data in several folders ({List(subsets)}); give the path of one, or a list of sources"
            );
        var formats = files.Select(f => RowReader.Extension(f)!).Distinct().ToList();
        if (formats.Count > 1)
            throw new InvalidDataException(
                $"{folder}: holds files of several formats ({List(formats)}), which may be the same rows twice; "
                    + "give a pattern such as "
                    + Path.Combine(folder, "*" + formats[0])
            );
    }

    private static bool IsDescription(string file) => Descriptions.Contains(Path.GetFileName(file));

    private static string Splits(List<string> files) =>
        List(
            files
                .Select(f => DataSplit.Of(f) is "" ? "(files without a split in their name)" : DataSplit.Of(f))
                .Distinct()
        );

    private static string Found(List<string> files)
    {
        if (files.Count == 0)
            return "nothing";
        string advice = files.Any(f => f.EndsWith(".arrow", StringComparison.Ordinal))
            ? " (write Arrow files as Parquet: dataset.to_parquet(...))"
            : "";
        return List(files) + advice;
    }

    private static string List(IEnumerable<string> names)
    {
        string[] all = [.. names];
        return string.Join(", ", all.Take(8).Select(n => n == "" ? "." : n)) + (all.Length > 8 ? ", …" : "");
    }
}
