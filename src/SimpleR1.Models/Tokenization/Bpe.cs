using System.Collections.Concurrent;
using System.Text;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// Byte-pair encoding by merge ranks (Sennrich et al. 2016), exact and O(n log n) in the length of a word. Knows both
/// kinds in use: byte-level (GPT-2, Qwen, Llama 3: symbols are bytes) and byte fallback (Llama 2: symbols are
/// characters, unknown ones become <c>&lt;0xNN&gt;</c>).
/// </summary>
internal sealed class Bpe
{
    private const int CachedWordLength = 64;
    private const int CachedWords = 1 << 18;

    private readonly Dictionary<string, int> vocabulary;
    private readonly Dictionary<(int, int), (int Rank, int Id)> merges = [];
    private readonly int[] byteIds = new int[256]; // symbol of each byte, −1 where the vocabulary has none
    private readonly bool byteLevel;
    private readonly bool ignoreMerges;
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
        this.vocabulary = vocabulary;
        this.byteLevel = byteLevel;
        this.ignoreMerges = ignoreMerges;
        this.unknownId = unknownId;

        int rank = 0;
        foreach (var (left, right) in merges)
        {
            if (
                !vocabulary.TryGetValue(left, out int leftId)
                || !vocabulary.TryGetValue(right, out int rightId)
                || !vocabulary.TryGetValue(left + right, out int id)
            )
                throw new InvalidDataException(
                    $"tokenizer.json: merge {rank} ('{left}' + '{right}') names a token that the vocabulary lacks"
                );
            this.merges.TryAdd((leftId, rightId), (rank++, id));
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
        if (ignoreMerges && vocabulary.TryGetValue(TokenText(word), out int whole))
            return [whole];

        // A linked list of symbols.
        var symbols = Symbols(word);
        int n = symbols.Count;
        var next = new int[n];
        var previous = new int[n];
        for (int i = 0; i < n; i++)
        {
            previous[i] = i - 1;
            next[i] = i + 1 < n ? i + 1 : -1;
        }

        // Merge the pair of least rank, the leftmost among equals, until none is left.
        var queue = new PriorityQueue<(int Left, int LeftId, int RightId), (int Rank, int Position)>();
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

        void Offer(int left)
        {
            if (left < 0 || next[left] < 0 || !merges.TryGetValue((symbols[left], symbols[next[left]]), out var merge))
                return;
            queue.Enqueue((left, symbols[left], symbols[next[left]]), (merge.Rank, left));
        }
    }

    private string TokenText(string word) => byteLevel ? ByteAlphabet.Encode(word) : word;

    /// <summary>The ids that a word is merged from.</summary>
    private List<int> Symbols(string word)
    {
        var symbols = new List<int>(word.Length);
        foreach (var rune in word.EnumerateRunes())
        {
            if (!byteLevel && vocabulary.TryGetValue(rune.ToString(), out int character))
                symbols.Add(character);
            else
                AddBytes(rune, symbols);
        }

        return symbols;
    }

    /// <summary>Adds a character's bytes, or the unknown token if the vocabulary lacks one of them.</summary>
    private void AddBytes(Rune rune, List<int> symbols)
    {
        Span<byte> utf8 = stackalloc byte[4];
        utf8 = utf8[..rune.EncodeToUtf8(utf8)];
        bool covered = true;
        foreach (byte b in utf8)
            covered &= byteIds[b] >= 0;

        if (covered)
        {
            foreach (byte b in utf8)
                symbols.Add(byteIds[b]);
            return;
        }

        int unknown =
            unknownId
            ?? throw new InvalidDataException(
                $"tokenizer.json has neither a token nor bytes for U+{rune.Value:X4}, and no unknown token"
            );
        if (symbols.Count == 0 || symbols[^1] != unknown)
            symbols.Add(unknown); // a run of unknown characters is one token
    }
}
