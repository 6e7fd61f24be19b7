using System.Globalization;
using System.Text.Json;
using SimpleR1.Inference;
using SimpleR1.Server.Sources;

namespace SimpleR1.Server.Api;

/// <summary>Reads the fields that say how tokens are sampled and where a completion ends.</summary>
internal sealed class SamplingFields(ICompletionSource source, HttpLimits limits)
{
    private const int MostBiases = 1024;
    private const int MostStops = 16;
    private const int LongestStop = 256; // characters
    private const int MostStopIds = 64;
    private const int MostBadWords = 256;
    private const int LongestBadWord = 256; // characters

    /// <param name="topLogProbs">Alternatives of each token.</param>
    public SamplingParameters Read(JsonFields fields, int topLogProbs)
    {
        int? most = MaxTokens(fields);
        int least = (int)(fields.Integer("min_tokens", 0, int.MaxValue) ?? 0);
        if (most < least)
            fields.Problem("min_tokens", $"{least} is more than the {most} tokens allowed at most");

        return new()
        {
            Samples = (int)(fields.Integer("n", 1, limits.N) ?? 1),
            MaxTokens = most ?? 0,
            MinTokens = least,

            Temperature = fields.Number("temperature", 0, 100) ?? 1,
            TopP = fields.Number("top_p", 0, 1, above: true) ?? 1,
            TopK = TopK(fields),
            MinP = fields.Number("min_p", 0, 1) ?? 0,
            RepetitionPenalty = fields.Number("repetition_penalty", 0, 100, above: true) ?? 1,
            PresencePenalty = fields.Number("presence_penalty", -2, 2) ?? 0,
            FrequencyPenalty = fields.Number("frequency_penalty", -2, 2) ?? 0,
            LogitBias = Biases(fields),
            Seed = Seed(fields),

            StopStrings = fields.Texts("stop", MostStops, LongestStop),
            BadWords = BadWords(fields),
            StopTokenIds = fields.TokenIds("stop_token_ids", source.Config.VocabularySize, MostStopIds),
            IncludeStopString = fields.Flag("include_stop_str_in_output") ?? false,
            KeepSpecialTokens = !(fields.Flag("skip_special_tokens") ?? true),
            IgnoreEos = fields.Flag("ignore_eos") ?? false,
            TopLogProbs = topLogProbs,
        };
    }

    /// <summary>
    /// vLLM's reading: each word as it is at the beginning of a text, and after a space where that is another token.
    /// </summary>
    private List<int[]> BadWords(JsonFields fields)
    {
        var words = new List<int[]>();
        foreach (string text in fields.Texts("bad_words", MostBadWords, LongestBadWord))
        {
            string word = text.TrimStart();
            if (word.Length == 0)
            {
                fields.Problem("bad_words", "expected words with at least one character that is no space");
                continue;
            }
            int[] atBeginning = source.Tokenizer.Encode(word);
            int[] afterSpace = source.Tokenizer.Encode(" " + word);
            words.Add(atBeginning);
            if (afterSpace.Length == atBeginning.Length && afterSpace[0] != atBeginning[0])
                words.Add(afterSpace);
        }
        return words;
    }

    /// <summary>OpenAI's newer name for the field has precedence.</summary>
    private static int? MaxTokens(JsonFields fields)
    {
        long? older = fields.Integer("max_tokens", 1, int.MaxValue);
        long? newer = fields.Integer("max_completion_tokens", 1, int.MaxValue);
        return (int?)(newer ?? older);
    }

    /// <summary>vLLM's -1 keeps all tokens, like 0.</summary>
    private static int TopK(JsonFields fields) => (int)Math.Max(0, fields.Integer("top_k", -1, int.MaxValue) ?? 0);

    private static ulong Seed(JsonFields fields)
    {
        long seed = fields.Integer("seed", long.MinValue, long.MaxValue) ?? Random.Shared.NextInt64();
        return unchecked((ulong)seed);
    }

    private Dictionary<int, float> Biases(JsonFields fields)
    {
        int vocabulary = source.Config.VocabularySize;
        string expected =
            $"an object of up to {MostBiases} token ids (0 .. {vocabulary - 1}) with numbers from -100 to 100";
        return fields.Read(
                "logit_bias",
                expected,
                value => value.ValueKind == JsonValueKind.Object ? Biases(value, vocabulary) : null
            ) ?? [];
    }

    private static Dictionary<int, float>? Biases(JsonElement value, int vocabulary)
    {
        var biases = new Dictionary<int, float>();
        foreach (var entry in value.EnumerateObject())
        {
            bool isId = int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id);
            bool isBias =
                entry.Value.ValueKind == JsonValueKind.Number && entry.Value.GetDouble() is >= -100 and <= 100;
            if (!isId || id >= vocabulary || !isBias || biases.Count == MostBiases)
                return null;
            biases[id] = (float)entry.Value.GetDouble();
        }
        return biases;
    }
}
