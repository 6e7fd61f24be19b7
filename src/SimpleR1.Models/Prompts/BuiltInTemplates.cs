using System.Text;

namespace SimpleR1.Models.Prompts;

/// <summary>Prompt templates by name, and texts with {question} as the Jinja templates that they stand for.</summary>
public static class BuiltInTemplates
{
    internal const string Question = "{question}";
    internal const string System = "{system}";
    private const string DefaultSystem = "You are a helpful assistant.";

    private const string R1ZeroInstruction =
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. "
        + "The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        + "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, "
        + "i.e., <think> reasoning process here </think> <answer> answer here </answer>.";

    /// <summary>
    /// Texts by name. A completion starts right after the text: for the r1-zero ones, with <c>&lt;think&gt;</c>, which
    /// the model must write itself.
    /// </summary>
    internal static readonly IReadOnlyDictionary<string, string> Texts = new Dictionary<string, string>
    {
        // DeepSeek-R1 (DeepSeek-AI 2025), table 1.
        ["r1-zero"] = R1ZeroInstruction + " User: {question} Assistant:",
        ["r1-zero-one-shot"] =
            R1ZeroInstruction
            + " User: A box holds 3 rows of 4 apples. 5 are eaten. How many are left? Assistant: "
            + "<think> There are 3 * 4 = 12 apples at first. After 5 are eaten, 12 - 5 = 7 are left. </think> "
            + "<answer> 7 </answer> User: {question} Assistant:",
        ["plain"] = Question,
    };

    /// <summary>Every name; chatml and chat take whole conversations.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Texts.Keys, "chatml", PromptTemplate.Chat];

    /// <summary>ChatML as a Jinja template.</summary>
    /// <param name="system">The system message of conversations that begin with none.</param>
    internal static string ChatMl(string? system) =>
        "{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\\n' + "
        + Literal(system ?? DefaultSystem)
        + " + '<|im_end|>\\n' }}{% endif %}"
        + "{%- for message in messages %}"
        + "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
        + "{%- endfor %}"
        + "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    /// <summary>
    /// A text with {question} as a Jinja template of conversations: one question, and after training also its answer.
    /// </summary>
    /// <param name="eos">What ends an answer.</param>
    internal static string FromText(string text, string? system, string eos)
    {
        string filled = system is null ? text : text.Replace(System, system, StringComparison.Ordinal);
        var template = new StringBuilder(
            "{%- if messages[0].role != 'user' or messages|length > 2 %}"
                + "{{ raise_exception('this template takes one message, of role user') }}{% endif %}{{ "
        );
        template.AppendJoin(" + messages[0].content + ", filled.Split(Question).Select(Literal));
        return template
            .Append(" }}{% if messages|length == 2 %}{{ messages[1].content + ")
            .Append(Literal(eos))
            .Append(" }}{% endif %}")
            .ToString();
    }

    /// <summary>A text as a string literal of Jinja.</summary>
    internal static string Literal(string text)
    {
        var literal = new StringBuilder("'");
        foreach (char c in text)
            _ = c switch
            {
                '\\' or '\'' => literal.Append('\\').Append(c),
                '\n' => literal.Append("\\n"),
                '\r' => literal.Append("\\r"),
                _ => literal.Append(c),
            };
        return literal.Append('\'').ToString();
    }
}
