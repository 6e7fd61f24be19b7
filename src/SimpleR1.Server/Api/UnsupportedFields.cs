using System.Text.Json;

namespace SimpleR1.Server.Api;

/// <summary>
/// Fields of OpenAI's and vLLM's APIs that the server ignores, or refuses unless their value asks for nothing.
/// </summary>
internal static class UnsupportedFields
{
    /// <summary>They change nothing about the answer.</summary>
    private static readonly string[] Ignored =
    [
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "spaces_between_special_tokens",
        "request_id",
    ];

    private static readonly string[] RefusedInChat =
    [
        "functions",
        "function_call",
        "audio",
        "prediction",
        "reasoning_effort",
        "verbosity",
        "web_search_options",
    ];

    /// <param name="samples">Completions of each prompt.</param>
    public static void Refuse(JsonFields fields, int samples)
    {
        const string noPromptLogProbs = "the log-probs of prompt tokens are not computed";
        fields.Ignore(Ignored);
        if (fields.Integer("best_of", 1, int.MaxValue) is { } best && best != samples)
            fields.Problem(
                "best_of",
                $"only the value of n ({samples}) is supported: ask for n completions with logprobs and choose one"
            );
        fields.Refuse(
            "echo",
            $"not supported: {noPromptLogProbs}; put the prompt in front yourself",
            value => value.ValueKind == JsonValueKind.False
        );
        fields.Refuse("suffix", "not supported: the models here cannot fill in", value => IsText(value, ""));
        fields.Refuse("prompt_logprobs", $"not supported: {noPromptLogProbs}");
        fields.Refuse(
            "response_format",
            """only {"type": "text"} is supported""",
            value =>
                value.ValueKind == JsonValueKind.Object
                && value.TryGetProperty("type", out var type)
                && type.ValueEquals("text")
        );
    }

    public static void RefuseInChat(JsonFields fields)
    {
        // Tools are for the chat template only: calls come back as the text that the model writes.
        fields.Ignore("parallel_tool_calls");
        fields.Refuse(
            "tool_choice",
            "only auto and none are supported",
            value => IsText(value, "auto") || IsText(value, "none")
        );
        fields.Refuse(
            "modalities",
            """only ["text"] is supported""",
            value => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 1 && IsText(value[0], "text")
        );
        foreach (string field in RefusedInChat)
            fields.Refuse(field, "not supported");
    }

    private static bool IsText(JsonElement value, string text) =>
        value.ValueKind == JsonValueKind.String && value.GetString() == text;
}
