namespace SimpleR1.Models.Tokenization;

/// <summary>Text ↔ token ids, from a Hugging Face <c>tokenizer.json</c>.</summary>
public sealed class Tokenizer
{
    /// <summary>Reads <c>tokenizer.json</c> (and <c>tokenizer_config.json</c> where present) of a model folder.</summary>
    public static Tokenizer Load(string folder) => throw new InvalidOperationException("written next");

    /// <summary>Largest id + 1, added tokens included.</summary>
    public int VocabularySize => throw new InvalidOperationException("written next");

    /// <summary>Text → ids. Special tokens written in the text are recognised; none is added.</summary>
    public int[] Encode(string text) => throw new InvalidOperationException("written next");

    /// <summary>Ids → text, special tokens left out unless asked for.</summary>
    public string Decode(ReadOnlySpan<int> ids, bool withSpecialTokens = false) => throw new InvalidOperationException("written next");

    /// <summary>A decoder that takes ids one at a time and never gives out half a character.</summary>
    public StreamingDecoder Stream(bool withSpecialTokens = false) => throw new InvalidOperationException("written next");
}

/// <summary>Turns ids into text piece by piece; bytes of an unfinished character wait for the rest.</summary>
public sealed class StreamingDecoder
{
    /// <summary>The text that became certain with this id; often empty.</summary>
    public string Append(int id) => throw new InvalidOperationException("written next");

    /// <summary>What still waits, at the end (an incomplete character becomes U+FFFD).</summary>
    public string Flush() => throw new InvalidOperationException("written next");
}
