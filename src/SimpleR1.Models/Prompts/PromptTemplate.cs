using System.Text;
using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts.Jinja;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Models.Prompts;

/// <summary>
/// Makes a prompt of a question or a conversation: a built-in template by name, a custom text with <c>{question}</c>, or
/// the model's own chat template. All of them are Jinja templates, so that a checkpoint can keep the one it was trained
/// with.
/// </summary>
public sealed class PromptTemplate
{
    /// <summary>The name of the model's own chat template.</summary>
    public const string Chat = "chat";

    private readonly JinjaTemplate template;
    private readonly JinjaTemplate? toolTemplate;
    private readonly JsonObject tokens;
    private readonly string? afterQuestion; // of a text with {question}

    private PromptTemplate(string name, string text, string? toolText, string? afterQuestion, JsonObject tokens)
    {
        Name = name;
        Text = text;
        this.afterQuestion = afterQuestion;
        this.tokens = tokens;
        template = JinjaTemplate.Parse(text);
        toolTemplate = toolText is null ? null : JinjaTemplate.Parse(toolText);
    }

    /// <summary>A built-in name, <c>chat</c>, or <c>custom</c>.</summary>
    public string Name { get; }

    /// <summary>The Jinja template, with the system message and the variables that it was made with.</summary>
    public string Text { get; }

    /// <summary>Whether it renders whole conversations, not only one question.</summary>
    public bool TakesConversations => afterQuestion is null;

    /// <summary>Whether it prints the tools of a conversation.</summary>
    public bool TakesTools => toolTemplate is not null || template.Uses("tools");

    /// <summary>The local time of strftime_now; one for all prompts, so that a run's prompts do not change at midnight.</summary>
    public DateTime Now { get; init; } = DateTime.Now;

    /// <summary>Makes a template from what a recipe or an option gives.</summary>
    /// <param name="nameOrText">A built-in name, <c>chat</c>, or a text that contains {question}.</param>
    /// <exception cref="ArgumentException">
    /// It is neither a name nor a text with the placeholder, the model has no chat template, or an option has no place.
    /// </exception>
    /// <exception cref="InvalidDataException">The model's chat template is not valid; the message has file and line.</exception>
    public static PromptTemplate Create(string nameOrText, PromptOptions? options = null)
    {
        options ??= new();
        if (nameOrText == Chat)
            return FromModel(options);
        var tokens = options.Folder is { } folder ? ChatTemplateFiles.Read(folder).Tokens : [];
        if (nameOrText == "chatml")
            return new(
                nameOrText,
                WithDefaults(BuiltInTemplates.ChatMl(options.System), options.Variables),
                null,
                null,
                tokens
            );

        string name = nameOrText;
        if (!BuiltInTemplates.Texts.TryGetValue(nameOrText, out string? text))
        {
            text = nameOrText;
            name = "custom";
        }
        CheckText(text, options);
        string afterQuestion = text[(text.LastIndexOf(BuiltInTemplates.Question, StringComparison.Ordinal) + 10)..];
        string eos = tokens["eos_token"]?.GetValue<string>() ?? "";
        return new(name, BuiltInTemplates.FromText(text, options.System, eos), null, afterQuestion, tokens);
    }

    private static void CheckText(string text, PromptOptions options)
    {
        if (!text.Contains(BuiltInTemplates.Question, StringComparison.Ordinal))
            throw new ArgumentException(
                $"'{text}' is neither a built-in template ({string.Join(", ", BuiltInTemplates.Names)}) "
                    + $"nor a text with {BuiltInTemplates.Question} in it"
            );
        bool hasSystem = text.Contains(BuiltInTemplates.System, StringComparison.Ordinal);
        if (options.System is not null && !hasSystem)
            throw new ArgumentException(
                "the template has no place for a system message: leave the message out, or use the template "
                    + $"'{Chat}', 'chatml' or a text with {BuiltInTemplates.System}"
            );
        if (options.System is null && hasSystem)
            throw new ArgumentException($"the template has {BuiltInTemplates.System}: give the system message too");
        if (options.Variables.Count > 0)
            throw new ArgumentException(
                $"the template has no variables; template options are for '{Chat}' and 'chatml'"
            );
    }

    private static PromptTemplate FromModel(PromptOptions options)
    {
        string folder = options.Folder ?? throw new ArgumentException($"the template '{Chat}' needs a model's folder");
        return ForModel(options)
            ?? throw new ArgumentException(
                $"{folder} has no chat template (chat_template in tokenizer_config.json, or chat_template.jinja): "
                    + "base models have none. Use chatml, r1-zero or a text with {question}, "
                    + "or copy the template of the model's instruct version"
            );
    }

    /// <summary>The chat template of a model's folder; null if it has none.</summary>
    /// <exception cref="InvalidDataException">The template is not valid; the message has file and line.</exception>
    public static PromptTemplate? ForModel(PromptOptions options)
    {
        var files = ChatTemplateFiles.Read(options.Folder!);
        if (files.Source is not { } source)
            return null;
        try
        {
            string text = WithSystem(WithDefaults(source, options.Variables), options.System);
            string? toolText = files.ToolSource is { } toolSource
                ? WithSystem(WithDefaults(toolSource, options.Variables), options.System)
                : null;
            return new(Chat, text, toolText, null, files.Tokens) { IsModelsOwn = text == source };
        }
        catch (JinjaException e)
        {
            throw new InvalidDataException($"{files.Origin}: {e.Message}", e);
        }
    }

    /// <summary>Whether the model's files hold this very template already.</summary>
    private bool IsModelsOwn { get; init; }

    /// <summary>A template whose variables have values where its caller gives none.</summary>
    private static string WithDefaults(string source, JsonObject variables)
    {
        var defaults = new StringBuilder();
        foreach (var (name, value) in variables)
            defaults.Append($"{{%- if {name} is not defined %}}{{% set {name} = {Literal(value)} %}}{{% endif %}}\n");
        return defaults.Append(source).ToString();
    }

    private static string WithSystem(string source, string? system) =>
        system is null
            ? source
            : "{%- if messages[0].role != 'system' %}{% set messages = [{'role': 'system', 'content': "
                + BuiltInTemplates.Literal(system)
                + "}] + messages %}{% endif %}\n"
                + source;

    /// <summary>A JSON value as Jinja writes it.</summary>
    private static string Literal(JsonNode? value) =>
        value switch
        {
            null => "none",
            JsonArray list => $"[{string.Join(", ", list.Select(Literal))}]",
            JsonObject map =>
                $"{{{string.Join(", ", map.Select(m => $"{BuiltInTemplates.Literal(m.Key)}: {Literal(m.Value)}"))}}}",
            JsonValue text when text.TryGetValue(out string? content) => BuiltInTemplates.Literal(content),
            _ => value.ToJsonString(),
        };

    /// <summary>The prompt of a question.</summary>
    /// <exception cref="JinjaException">The template refuses it.</exception>
    public string Render(string question) => Render([new("user", question)]);

    /// <summary>The prompt of a conversation.</summary>
    /// <exception cref="ArgumentException">The template has no place for these messages.</exception>
    /// <exception cref="JinjaException">The template refuses the conversation, or has a mistake.</exception>
    public string Render(IReadOnlyList<ChatMessage> messages, ChatOptions? options = null)
    {
        options ??= new();
        if (messages.Count == 0)
            throw new ArgumentException("there are no messages; give at least one of role user");
        if (!TakesConversations && messages is not [{ Role: "user" }])
            throw new ArgumentException(
                $"the template '{Name}' takes exactly one message, of role user; found "
                    + $"{string.Join(", ", messages.Select(m => m.Role))}. For conversations use {Chat} or chatml"
            );
        if (options.ContinueFinalMessage && options.AddGenerationPrompt)
            throw new ArgumentException("a prompt can't both continue the last message and begin the next one");

        var variables = Variables(messages, options);
        string text = (options.Tools is null ? template : toolTemplate ?? template).Render(variables, Now);
        return options.ContinueFinalMessage ? CutAfter(text, messages[^1].Content) : text;
    }

    private JsonObject Variables(IReadOnlyList<ChatMessage> messages, ChatOptions options)
    {
        var variables = (JsonObject)tokens.DeepClone();
        variables["messages"] = new JsonArray([.. messages.Select(m => m.ToJson())]);
        variables["tools"] = options.Tools?.DeepClone();
        variables["documents"] = null;
        variables["add_generation_prompt"] = options.AddGenerationPrompt;
        foreach (var (name, value) in options.Variables)
            variables[name] = value?.DeepClone();
        return variables;
    }

    /// <summary>Removes what a template puts after the last message, as transformers does.</summary>
    private static string CutAfter(string text, string content)
    {
        string trimmed = content.Trim();
        int start = trimmed.Length > 0 ? text.LastIndexOf(trimmed, StringComparison.Ordinal) : -1;
        if (start < 0)
            throw new ArgumentException(
                "the last message can't be continued: the chat template changes its content, or it is empty"
            );
        string full = content.TrimStart();
        bool isWhole = string.CompareOrdinal(text, start, full, 0, full.Length) == 0;
        return text[..(start + (isWhole ? full.Length : trimmed.Length))];
    }

    /// <summary>
    /// The part of the answer that the prompt already holds, such as <c>&lt;think&gt;</c> and a line break: what an
    /// answer is judged with. For a chat template all from the first tag of a thought or an answer in what it adds for
    /// the assistant; for a text a tag at its very end.
    /// </summary>
    public string AnswerStart(IReadOnlyList<ChatMessage> messages)
    {
        if (afterQuestion is not null)
            return Prompts.AnswerStart.AtEnd(afterQuestion);
        string with = Render(messages);
        string without = Render(messages, new() { AddGenerationPrompt = false });
        string added = with[with.AsSpan().CommonPrefixLength(without)..];
        return added.Length > 0 ? Prompts.AnswerStart.InGenerationPrompt(added) : Prompts.AnswerStart.AtEnd(with);
    }

    /// <summary>
    /// A prompt's token ids. A chat template writes the beginning-of-text token itself if the model has one; in front of
    /// other prompts it is added, unless they begin with it.
    /// </summary>
    /// <exception cref="InvalidDataException">The prompt has a character without a token.</exception>
    public int[] Encode(Tokenizer tokenizer, string prompt)
    {
        string prefix = Prefix(tokenizer);
        bool isComplete = Name == Chat || prefix.Length > 0 && prompt.StartsWith(prefix, StringComparison.Ordinal);
        return isComplete ? tokenizer.Encode(prompt) : tokenizer.EncodePrompt(prompt);
    }

    /// <summary>The text of the tokens that the tokenizer puts in front of a prompt.</summary>
    private static string Prefix(Tokenizer tokenizer) =>
        string.Concat(tokenizer.EncodePrompt("").Select(id => tokenizer.TokenText(id)));

    /// <summary>
    /// Makes this the chat template of a model's folder, so that programs that load it render the same prompts. The model's
    /// own template is there already, and <c>plain</c> adds nothing to a question.
    /// </summary>
    public void WriteTo(string folder, Tokenizer tokenizer)
    {
        if (IsModelsOwn || Name == "plain")
            return;
        string prefix = Name == Chat ? "" : Prefix(tokenizer);
        ChatTemplateFiles.Write(
            folder,
            prefix.Length == 0 ? Text : $"{{{{ {BuiltInTemplates.Literal(prefix)} }}}}" + Text
        );
    }
}
