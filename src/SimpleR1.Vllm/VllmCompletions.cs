using System.Globalization;
using System.Text.Json;
using SimpleR1.Inference;

namespace SimpleR1.Vllm;

/// <summary>A generation request as the body of <c>/v1/completions</c>, and the answer as completions.</summary>
internal static class VllmCompletions
{
    private const string VersionPrefix = "weights-";

    /// <summary>The body: token ids in; token ids and log-probs of the sampled tokens out.</summary>
    public static object Body(GenerationRequest request)
    {
        var sampling = request.Sampling;
        return new
        {
            prompt = request.PromptTokens,
            n = sampling.Samples,
            seed = unchecked((long)sampling.Seed),

            max_tokens = sampling.MaxTokens,
            min_tokens = sampling.MinTokens,
            stop = sampling.StopStrings,
            stop_token_ids = sampling.StopTokenIds,
            include_stop_str_in_output = sampling.IncludeStopString,
            skip_special_tokens = !sampling.KeepSpecialTokens,
            ignore_eos = sampling.IgnoreEos,

            temperature = sampling.Temperature,
            top_p = sampling.TopP,
            top_k = sampling.TopK == 0 ? -1 : sampling.TopK,
            min_p = sampling.MinP,
            presence_penalty = sampling.PresencePenalty,
            frequency_penalty = sampling.FrequencyPenalty,
            repetition_penalty = sampling.RepetitionPenalty,

            logprobs = 0,
            return_token_ids = true,
        };
    }

    public static IReadOnlyList<Completion> Read(GenerationRequest request, JsonElement answer)
    {
        int version = Version(answer);
        return
        [
            .. answer
                .GetProperty("choices")
                .EnumerateArray()
                .Select((choice, index) => Read(request, choice, index, version)),
        ];
    }

    /// <summary>
    /// The version of the weights that answered, which our server puts in the fingerprint; -1 for other servers.
    /// </summary>
    private static int Version(JsonElement answer)
    {
        string? fingerprint = answer.TryGetProperty("system_fingerprint", out var value) ? value.GetString() : null;
        return fingerprint?.StartsWith(VersionPrefix, StringComparison.Ordinal) == true
            ? int.Parse(fingerprint.AsSpan(VersionPrefix.Length), CultureInfo.InvariantCulture)
            : -1;
    }

    private static Completion Read(GenerationRequest request, JsonElement choice, int index, int version)
    {
        int[] tokens = [.. choice.GetProperty("token_ids").EnumerateArray().Select(t => t.GetInt32())];
        var logProbs = choice.GetProperty("logprobs").GetProperty("token_logprobs");
        return new()
        {
            RequestId = request.Id,
            SampleIndex = index,
            Tokens = tokens,
            Text = choice.GetProperty("text").GetString()!,
            LogProbs = [.. logProbs.EnumerateArray().Select(l => l.GetSingle())],
            WeightVersions = [.. Enumerable.Repeat(version, tokens.Length)],
            FinishReason = choice.GetProperty("finish_reason").GetString() switch
            {
                "stop" => FinishReason.Stop,
                "length" => FinishReason.Length,
                _ => FinishReason.Aborted,
            },
        };
    }
}
