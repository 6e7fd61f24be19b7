using System.Text;

namespace SimpleR1.Models.Prompts;

/// <summary>Renders a conversation as the text that a model continues.</summary>
public static class ChatTemplate
{
    /// <summary>The roles that a message can have.</summary>
    public static readonly IReadOnlyList<string> Roles = ["system", "user", "assistant"];

    /// <summary>
    /// Renders messages. chatml takes any conversation, and adds a system message if there is none; the other templates
    /// take one question.
    /// </summary>
    /// <exception cref="ArgumentException">The template has no place for these messages.</exception>
    public static string Render(PromptTemplate template, IReadOnlyList<ChatMessage> messages)
    {
        if (messages.Count == 0)
            throw new ArgumentException("there are no messages; give at least one of role user");
        if (messages.FirstOrDefault(m => !Roles.Contains(m.Role)) is { } unknown)
            throw new ArgumentException($"role '{unknown.Role}' is not one of {string.Join(", ", Roles)}");

        if (template.Name != "chatml")
            return RenderQuestion(template, messages);

        var text = new StringBuilder();
        if (messages[0].Role != "system")
            Append(text, new("system", "You are a helpful assistant."));
        foreach (var message in messages)
            Append(text, message);
        return text.Append("<|im_start|>assistant\n").ToString();
    }

    private static string RenderQuestion(PromptTemplate template, IReadOnlyList<ChatMessage> messages)
    {
        if (messages is [{ Role: "user" } question])
            return template.Render(question.Content);

        string roles = string.Join(", ", messages.Select(m => m.Role));
        throw new ArgumentException(
            $"the template '{template.Name}' takes exactly one message, of role user; found {roles}. "
                + "For conversations use chatml"
        );
    }

    private static void Append(StringBuilder text, ChatMessage message) =>
        text.Append("<|im_start|>").Append(message.Role).Append('\n').Append(message.Content).Append("<|im_end|>\n");
}
