using System.Collections.Concurrent;
using System.Text;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// Byte-pair encoding by merge ranks (Sennrich et al. 2016), exact and O(n log n) in the length of a word, for both kinds in use:
/// byte-level (GPT-2, Qwen, Llama 3: symbols are bytes) and byte fallback (Llama 2: symbols are characters, unknown ones become <c>&lt;0xNN&gt;</c>).
/// </summary>
internal sealed class Bpe
{
    private const int CachedWordLength = 64,
        CachedWords = 1 << 18;

    private readonly Dictionary<string, int> vocabulary;
    private readonly Dictionary<(int, int), (int Rank, int Id)> merges = [];
    private readonly int[] byteIds = new int[256]; // symbol of each byte, −1 where the vocabulary has none
    private readonly bool byteLevel,
        ignoreMerges;
    private readonly int? unknownId;
    private readonly ConcurrentDictionary<string, int[]> cache = new();

    /// <param name="merges">Pairs of token texts, most important first.</param>
    public Bpe(
        Dictionary<string, int> vocabulary,
        IEnumerable<(string Left, string Right)> merges,
        bool byteLevel,
        bool ignoreMerges,
        int? unknownId
    )
    {
        (this.vocabulary, this.byteLevel, this.ignoreMerges, this.unknownId) = (
            vocabulary,
            byteLevel,
            ignoreMerges,
            unknownId
        );
        int rank = 0;
        foreach (var (left, right) in merges)
        {
            if (
                !vocabulary.TryGetValue(left, out int l)
                || !vocabulary.TryGetValue(right, out int r)
                || !vocabulary.TryGetValue(left + right, out int id)
            )
                throw new InvalidDataException(
                    $"tokenizer.json: merge {rank} ('{left}' + '{right}') names a token that the vocabulary lacks"
                );
            this.merges.TryAdd((l, r), (rank++, id));
        }
        for (int b = 0; b < 256; b++)
            byteIds[b] = vocabulary.GetValueOrDefault(
                byteLevel ? ByteAlphabet.Characters[b].ToString() : $"<0x{b:X2}>",
                -1
            );
    }

    /// <summary>Appends the ids of one pre-tokenized word.</summary>
    public void Encode(string word, List<int> ids)
    {
        if (word.Length > CachedWordLength)
        {
            ids.AddRange(Merge(word));
            return;
        }
        if (!cache.TryGetValue(word, out var found))
        {
            found = Merge(word);
            if (cache.Count < CachedWords)
                cache[word] = found;
        }
        ids.AddRange(found);
    }

    private int[] Merge(string word)
    {
        if (ignoreMerges && vocabulary.TryGetValue(byteLevel ? ByteAlphabet.Encode(word) : word, out int whole))
            return [whole];
        var symbols = Symbols(word);
        int n = symbols.Count;
        int[] next = new int[n],
            previous = new int[n];
        for (int i = 0; i < n; i++)
            (previous[i], next[i]) = (i - 1, i + 1 < n ? i + 1 : -1);
        var queue = new PriorityQueue<(int Left, int LeftId, int RightId), (int Rank, int Position)>();
        void Offer(int left)
        {
            if (left < 0 || next[left] < 0 || !merges.TryGetValue((symbols[left], symbols[next[left]]), out var merge))
                return;
            queue.Enqueue((left, symbols[left], symbols[next[left]]), (merge.Rank, left));
        }
        for (int i = 0; i < n; i++)
            Offer(i);
        while (queue.TryDequeue(out var pair, out _))
        {
            int right = pair.Left >= 0 ? next[pair.Left] : -1;
            if (right < 0 || symbols[pair.Left] != pair.LeftId || symbols[right] != pair.RightId)
                continue; // one of the two has been merged since
            symbols[pair.Left] = merges[(pair.LeftId, pair.RightId)].Id;
            symbols[right] = -1;
            next[pair.Left] = next[right];
            if (next[right] >= 0)
                previous[next[right]] = pair.Left;
            Offer(pair.Left);
            Offer(previous[pair.Left]);
        }
        return [.. symbols.Where(s => s >= 0)];
    }

    private List<int> Symbols(string word)
    {
        var symbols = new List<int>(word.Length);
        Span<byte> utf8 = stackalloc byte[4];
        foreach (var rune in word.EnumerateRunes())
        {
            int count = rune.EncodeToUtf8(utf8);
            if (!byteLevel && vocabulary.TryGetValue(rune.ToString(), out int character))
            {
                symbols.Add(character);
                continue;
            }
            bool covered = true;
            for (int i = 0; i < count; i++)
                covered &= byteIds[utf8[i]] >= 0;
            if (covered)
                for (int i = 0; i < count; i++)
                    symbols.Add(byteIds[utf8[i]]);
            else if (unknownId is { } unknown)
            {
                if (symbols.Count == 0 || symbols[^1] != unknown)
                    symbols.Add(unknown); // a run of unknown characters is one token
            }
            else
                throw new InvalidDataException(
                    $"tokenizer.json has neither a token nor bytes for U+{rune.Value:X4}, and no unknown token"
                );
        }
        return symbols;
    }
}

/// <summary>GPT-2's printable stand-ins for bytes: a byte-level vocabulary spells its tokens with these.</summary>
internal static class ByteAlphabet
{
    /// <summary>Character of each byte.</summary>
    public static readonly char[] Characters = Build();
    private static readonly Dictionary<char, byte> Bytes = Enumerable
        .Range(0, 256)
        .ToDictionary(b => Characters[b], b => (byte)b);

    public static string Encode(string text) =>
        string.Create(
            Encoding.UTF8.GetByteCount(text),
            text,
            (span, t) =>
            {
                byte[] bytes = Encoding.UTF8.GetBytes(t);
                for (int i = 0; i < bytes.Length; i++)
                    span[i] = Characters[bytes[i]];
            }
        );

    /// <summary>The bytes that a token's text stands for.</summary>
    public static byte[] Decode(string token) =>
        token.All(Bytes.ContainsKey) ? [.. token.Select(c => Bytes[c])] : Encoding.UTF8.GetBytes(token);

    private static char[] Build()
    {
        var characters = new char[256];
        int extra = 256;
        for (int b = 0; b < 256; b++)
            characters[b] = b is >= '!' and <= '~' or >= 0xA1 and <= 0xAC or >= 0xAE ? (char)b : (char)extra++;
        return characters;
    }
}
