using System.Collections.Concurrent;
using System.Text;

namespace SimpleR1.Models.Tokenization;

/// <summary>
/// Byte-pair encoding by merge ranks (Sennrich et al. 2016), exact and O(n log n) in the length of a word. Knows both
/// kinds in use: byte-level (GPT-2, Qwen, Llama 3: symbols are bytes) and byte fallback (Llama 2: symbols are
/// characters, unknown ones become <c>&lt;0xNN&gt;</c>).
/// </summary>
/// <param name="spellsBytes">Words are spelt in the characters that stand for bytes first.</param>
internal sealed class Bpe(BpeModel model, bool spellsBytes)
{
    private const int CachedWordLength = 64;
    private const int CachedWords = 1 << 18;

    private readonly Dictionary<string, int> vocabulary = model.Vocabulary;
    private readonly Dictionary<(int, int), (int Rank, int Id)> merges = model.Merges;
    private readonly int[] byteIds = // of the bytes that stand for unknown characters, −1 where there is none
    [.. Enumerable.Range(0, 256).Select(b => model.Vocabulary.GetValueOrDefault($"<0x{b:X2}>", -1))];
    private readonly ConcurrentDictionary<string, int[]> cache = new();

    /// <summary>Appends the ids of one pre-tokenized word.</summary>
    /// <exception cref="InvalidDataException">The vocabulary has nothing for a character of the word.</exception>
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

    private int[] Merge(string text)
    {
        string word = spellsBytes ? ByteAlphabet.Encode(text) : text;
        if (model.IgnoreMerges && vocabulary.TryGetValue(word, out int whole))
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

    /// <summary>The ids that a word is merged from.</summary>
    private List<int> Symbols(string word)
    {
        var symbols = new List<int>(word.Length);
        int unknowns = 0; // unknown tokens that are due: the reference adds them before the next known character
        int index = 0;
        foreach (var rune in word.EnumerateRunes())
        {
            bool isFirst = index == 0;
            index += rune.Utf16SequenceLength;
            string symbol = SymbolOf(rune, isFirst, isLast: index == word.Length);
            if (vocabulary.TryGetValue(symbol, out int id))
            {
                AddUnknowns(symbols, ref unknowns);
                symbols.Add(id);
            }
            else if (!model.ByteFallback || !TryAddBytes(symbol, symbols))
            {
                RequireUnknown(rune);
                unknowns = model.FuseUnknown ? 1 : unknowns + 1;
            }
        }

        AddUnknowns(symbols, ref unknowns);
        return symbols;
    }

    private string SymbolOf(Rune rune, bool isFirst, bool isLast)
    {
        string symbol = rune.ToString();
        if (!isFirst && model.ContinuingPrefix is not null)
            symbol = model.ContinuingPrefix + symbol;
        return isLast && model.EndOfWordSuffix is not null ? symbol + model.EndOfWordSuffix : symbol;
    }

    private void AddUnknowns(List<int> symbols, ref int unknowns)
    {
        for (; unknowns > 0; unknowns--)
            symbols.Add(model.UnknownId!.Value);
    }

    /// <summary>Adds a symbol's bytes, if the vocabulary has a token for each of them.</summary>
    private bool TryAddBytes(string symbol, List<int> symbols)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(symbol);
        if (utf8.Any(b => byteIds[b] < 0))
            return false;
        symbols.AddRange(utf8.Select(b => byteIds[b]));
        return true;
    }

    private void RequireUnknown(Rune rune)
    {
        if (model.UnknownId is null)
            throw new InvalidDataException(
                $"tokenizer.json has neither a token nor bytes for U+{rune.Value:X4}, and no unknown token: "
                    + "the character would be lost. Use the tokenizer.json that came with the model"
            );
    }
}
