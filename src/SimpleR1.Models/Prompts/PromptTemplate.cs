namespace SimpleR1.Models.Prompts;

/// <summary>The text around a question: a built-in one by name, or a custom text with <c>{question}</c>.</summary>
public sealed record PromptTemplate(string Name, string Text)
{
    private const string Placeholder = "{question}";

    private const string R1ZeroInstruction =
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
        + "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        + "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
        + "i.e., <think> reasoning process here </think> <answer> answer here </answer>.";

    /// <summary>
    /// Built-in templates. A completion starts right after the text: for the r1-zero ones, with <c>&lt;think&gt;</c>,
    /// which the model must write itself.
    /// </summary>
    public static readonly IReadOnlyDictionary<string, string> BuiltIn = new Dictionary<string, string>
    {
        // DeepSeek-R1 (DeepSeek-AI 2025), table 1.
        ["r1-zero"] = R1ZeroInstruction + " User: {question} Assistant:",
        ["r1-zero-one-shot"] =
            R1ZeroInstruction
            + " User: A box holds 3 rows of 4 apples. 5 are eaten. How many are left? Assistant: "
            + "<think> There are 3 * 4 = 12 apples at first. After 5 are eaten, 12 - 5 = 7 are left. </think> "
            + "<answer> 7 </answer> User: {question} Assistant:",
        ["chatml"] =
            "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n",
        ["plain"] = "{question}",
    };

    /// <summary>Makes a template from what a recipe or an option gives.</summary>
    /// <param name="nameOrText">A built-in name, or a text that contains {question}.</param>
    /// <param name="system">The system message of chatml; ignored by the others.</param>
    /// <exception cref="ArgumentException">It is neither a name nor a text with the placeholder.</exception>
    public static PromptTemplate Create(string nameOrText, string? system = null)
    {
        if (BuiltIn.TryGetValue(nameOrText, out string? text))
            return new(
                nameOrText,
                text.Replace("{system}", system ?? "You are a helpful assistant.", StringComparison.Ordinal)
            );
        if (nameOrText.Contains(Placeholder, StringComparison.Ordinal))
            return new("custom", nameOrText);
        throw new ArgumentException(
            $"'{nameOrText}' is neither a built-in template ({string.Join(", ", BuiltIn.Keys)}) "
                + $"nor a text with {Placeholder} in it"
        );
    }

    public string Render(string question) => Text.Replace(Placeholder, question, StringComparison.Ordinal);
}
