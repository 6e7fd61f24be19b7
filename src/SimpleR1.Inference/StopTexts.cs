using SimpleR1.Models.Tokenization;

namespace SimpleR1.Inference;

/// <summary>Stop texts that are special tokens.</summary>
internal static class StopTexts
{
    /// <summary>
    /// The request, with stop texts that are exactly one special token as ids: such a token is no part of the text, so
    /// it would never be found there.
    /// </summary>
    /// <exception cref="ArgumentException">
    /// A stop text holds a special token among other text, and special tokens are no part of the text.
    /// </exception>
    public static GenerationRequest Resolve(GenerationRequest request, Tokenizer? tokenizer)
    {
        var sampling = request.Sampling;
        if (tokenizer is null || sampling.StopStrings.Count == 0)
            return request;

        var texts = new List<string>();
        var ids = new List<int>(sampling.StopTokenIds);
        foreach (string stop in sampling.StopStrings)
        {
            if (tokenizer.TokenId(stop) is { } id && tokenizer.IsSpecial(id))
                ids.Add(id);
            else if (!sampling.KeepSpecialTokens && tokenizer.FindSpecial(stop) is { } special)
                throw new ArgumentException(
                    $"request '{request.Id}': the stop text '{stop}' holds the special token '{special.Text}', which is "
                        + "no part of the text; give that token alone, or keep special tokens in the text"
                );
            else
                texts.Add(stop);
        }

        return ids.Count == sampling.StopTokenIds.Count
            ? request
            : request with
            {
                Sampling = sampling with { StopStrings = texts, StopTokenIds = ids },
            };
    }
}
