using System.Text.Json;
using SimpleR1.Models.Json;

namespace SimpleR1.Models.Tokenization;

/// <summary>A tokenizer.json's <c>model</c>: vocabulary, merges and options of byte-pair encoding.</summary>
internal sealed record BpeModel
{
    public required Dictionary<string, int> Vocabulary { get; init; }

    /// <summary>Rank and result of each pair that merges; the least rank first.</summary>
    public required Dictionary<(int, int), (int Rank, int Id)> Merges { get; init; }

    /// <summary>The token of characters that the vocabulary lacks; null if there is none.</summary>
    public int? UnknownId { get; init; }

    /// <summary>Unknown characters side by side are one token.</summary>
    public bool FuseUnknown { get; init; }

    /// <summary>Unknown characters become the tokens of their bytes.</summary>
    public bool ByteFallback { get; init; }

    /// <summary>A word that is a token is that token, whatever its merges.</summary>
    public bool IgnoreMerges { get; init; }

    /// <summary>Stands before every character of a word but the first.</summary>
    public string? ContinuingPrefix { get; init; }

    /// <summary>Stands after the last character of a word.</summary>
    public string? EndOfWordSuffix { get; init; }

    /// <exception cref="InvalidDataException">The vocabulary or a merge is damaged; named, with its line.</exception>
    /// <exception cref="NotSupportedException">It is another model than BPE, or an option is unknown.</exception>
    public static BpeModel Read(JsonSection section)
    {
        string type = section.TextOrNull("type") ?? "BPE";
        if (type != "BPE")
            throw section.Unsupported("type", $"the model '{type}' is not supported (BPE is)");
        if (section.Number("dropout", 0) != 0)
            throw section.Unsupported("dropout", "merges left out at random are not supported; set it to null");

        var vocabulary = ReadVocabulary(section);
        string? prefix = section.TextOrNull("continuing_subword_prefix");
        var model = new BpeModel
        {
            Vocabulary = vocabulary,
            Merges = ReadMerges(section, vocabulary, prefix?.Length ?? 0),
            UnknownId = ReadUnknown(section, vocabulary),
            FuseUnknown = section.Flag("fuse_unk", false),
            ByteFallback = section.Flag("byte_fallback", false),
            IgnoreMerges = section.Flag("ignore_merges", false),
            ContinuingPrefix = string.IsNullOrEmpty(prefix) ? null : prefix,
            EndOfWordSuffix = section.TextOrNull("end_of_word_suffix") is { Length: > 0 } suffix ? suffix : null,
        };
        section.RefuseUnread();
        return model;
    }

    private static Dictionary<string, int> ReadVocabulary(JsonSection section)
    {
        var json = section.Take("vocab");
        if (json.ValueKind != JsonValueKind.Object)
            throw section.Wrong(["model", "vocab"], "an object of tokens and ids", json);

        var vocabulary = new Dictionary<string, int>();
        foreach (var entry in json.EnumerateObject())
        {
            bool isId = entry.Value.ValueKind == JsonValueKind.Number && entry.Value.TryGetInt32(out int id) && id >= 0;
            vocabulary[entry.Name] = isId
                ? entry.Value.GetInt32()
                : throw section.Wrong(["model", "vocab", entry.Name], "an id (0 or more)", entry.Value);
        }

        return vocabulary.Count > 0 ? vocabulary : throw section.Problem("vocab", "it is empty");
    }

    private static int? ReadUnknown(JsonSection section, Dictionary<string, int> vocabulary)
    {
        if (section.TextOrNull("unk_token") is not { } text)
            return null;
        return vocabulary.TryGetValue(text, out int id)
            ? id
            : throw section.Problem("unk_token", $"'{text}' is not in the vocabulary");
    }

    private static Dictionary<(int, int), (int Rank, int Id)> ReadMerges(
        JsonSection section,
        Dictionary<string, int> vocabulary,
        int prefixLength
    )
    {
        var merges = new Dictionary<(int, int), (int Rank, int Id)>();
        var list = section.Take("merges");
        if (list.ValueKind != JsonValueKind.Array)
            throw section.Wrong(["model", "merges"], "a list of pairs", list);

        int rank = 0;
        foreach (var merge in list.EnumerateArray())
        {
            if (ReadPair(merge) is not { } pair)
                throw section.Wrong(["model", "merges", rank], "two tokens, as ['a', 'b'] or as 'a b'", merge);
            var (left, right) = pair;
            string merged = left + (right.Length >= prefixLength ? right[prefixLength..] : "");
            if (
                !vocabulary.TryGetValue(left, out int leftId)
                || !vocabulary.TryGetValue(right, out int rightId)
                || !vocabulary.TryGetValue(merged, out int id)
            )
                throw section.Problem(
                    "merges",
                    $"number {rank} ('{left}' + '{right}') names a token that the vocabulary lacks"
                );
            merges[(leftId, rightId)] = (rank++, id);
        }

        return merges;
    }

    /// <summary>The two tokens of a merge; null if it has not two.</summary>
    private static (string Left, string Right)? ReadPair(JsonElement merge)
    {
        if (merge.ValueKind == JsonValueKind.String)
        {
            string[] parts = merge.GetString()!.Split(' ');
            return parts is [{ Length: > 0 }, { Length: > 0 }] ? (parts[0], parts[1]) : null;
        }

        bool isPair =
            merge.ValueKind == JsonValueKind.Array
            && merge.GetArrayLength() == 2
            && merge.EnumerateArray().All(part => part.ValueKind == JsonValueKind.String);
        return isPair ? (merge[0].GetString()!, merge[1].GetString()!) : null;
    }
}
