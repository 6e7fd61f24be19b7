using System.Text.RegularExpressions;

namespace SimpleR1.Training.Data.Rows;

/// <summary>
/// The split that a file belongs to, by the words that Hugging Face looks for in names of files and folders.
/// </summary>
internal static partial class DataSplit
{
    private static readonly Dictionary<string, string> Words = new(StringComparer.OrdinalIgnoreCase)
    {
        ["train"] = "train",
        ["training"] = "train",
        ["test"] = "test",
        ["testing"] = "test",
        ["eval"] = "test",
        ["evaluation"] = "test",
        ["validation"] = "validation",
        ["valid"] = "validation",
        ["val"] = "validation",
        ["dev"] = "validation",
    };

    /// <summary>"train" for data/train-00000-of-00002.parquet; empty when no part of the name says a split.</summary>
    public static string Of(string file)
    {
        string name = Path.GetFileName(file);
        if (Word(name) is { } split)
            return split;
        foreach (string folder in Folders(file).Reverse())
            if (Word(folder) is { } below)
                return below;
        return Prefix().Match(name) is { Success: true } shard ? shard.Groups[1].Value : "";
    }

    /// <summary>One name for all that mean the same: valid is validation.</summary>
    public static string Normal(string split) => Words.GetValueOrDefault(split, split);

    /// <summary>The folder of a file, without the parts that say its split.</summary>
    public static string Subset(string file) => string.Join('/', Folders(file).Where(f => Word(f) is null));

    private static string[] Folders(string file) => file.Split('/')[..^1];

    private static string? Word(string name) =>
        Separators()
            .Split(name)
            .Select(word => Words.GetValueOrDefault(word))
            .FirstOrDefault(split => split is not null);

    [GeneratedRegex("[^A-Za-z]+")]
    private static partial Regex Separators();

    /// <summary>Any other split of a folder that Hugging Face wrote: NAME-00000-of-00002.</summary>
    [GeneratedRegex(@"^(\w[\w.]*)-\d{5}-of-\d{5}")]
    private static partial Regex Prefix();
}
