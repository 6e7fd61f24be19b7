using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Prompts.Jinja;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Models.Prompts;

/// <summary>The chat template of a model folder, and the one that a checkpoint keeps.</summary>
public sealed class ChatTemplateTests : IDisposable
{
    private const string Simple =
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}"
        + "{% if add_generation_prompt %}[assistant]{% endif %}";

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-chat-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private void Write(string name, string text)
    {
        string path = Path.Combine(folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, text);
    }

    private void WriteConfig(JsonObject config) => Write("tokenizer_config.json", config.ToJsonString());

    private PromptTemplate Load(string? system = null, JsonObject? variables = null) =>
        PromptTemplate.Create(
            "chat",
            new()
            {
                Folder = folder,
                System = system,
                Variables = variables ?? [],
            }
        );

    [Fact]
    public void Special_tokens_are_texts_or_objects_and_a_missing_one_prints_nothing()
    {
        WriteConfig(
            new()
            {
                ["chat_template"] = Simple,
                ["bos_token"] = new JsonObject { ["content"] = "<s>", ["lstrip"] = false },
                ["eos_token"] = null,
            }
        );
        Assert.Equal("<s>[user]hi[assistant]", Load().Render("hi"));

        Write("special_tokens_map.json", """{"eos_token": "</s>"}""");
        Assert.Equal("<s>[user]hi</s>[assistant]", Load().Render("hi"));
    }

    [Fact]
    public void A_list_of_templates_has_one_for_tools()
    {
        WriteConfig(
            new()
            {
                ["chat_template"] = new JsonArray(
                    new JsonObject { ["name"] = "default", ["template"] = "D{{ messages[0].content }}" },
                    new JsonObject { ["name"] = "tool_use", ["template"] = "T{{ tools[0].name }}" }
                ),
            }
        );
        var template = Load();
        Assert.Equal("Dhi", template.Render("hi"));
        Assert.Equal("Tf", template.Render([new("user", "hi")], new() { Tools = [new JsonObject { ["name"] = "f" }] }));
        Assert.True(template.TakesTools);
    }

    [Fact]
    public void A_jinja_file_wins_over_the_configs_and_chat_template_json_comes_last()
    {
        Write("chat_template.json", """{"chat_template": "json"}""");
        Assert.Equal("json", Load().Render("hi"));
        WriteConfig(new() { ["chat_template"] = "config" });
        Assert.Equal("config", Load().Render("hi"));
        Write("chat_template.jinja", "file\n");
        Assert.Equal("file", Load().Render("hi"));
    }

    [Fact]
    public void A_model_without_a_template_is_an_error_that_says_what_to_do()
    {
        Assert.Contains("has no chat template", Assert.Throws<ArgumentException>(() => Load()).Message);
        Assert.Null(PromptTemplate.ForModel(new() { Folder = folder }));
    }

    [Fact]
    public void A_broken_template_is_named_with_file_and_line()
    {
        Write("chat_template.jinja", "a\n{{ x | nope }}");
        string message = Assert.Throws<InvalidDataException>(() => Load()).Message;
        Assert.Contains("chat_template.jinja: line 2", message);

        Write("tokenizer_config.json", "{");
        Assert.Contains("tokenizer_config.json", Assert.Throws<InvalidDataException>(() => Load()).Message);
    }

    [Fact]
    public void System_message_and_variables_are_defaults()
    {
        Write(
            "chat_template.jinja",
            "{% if think is defined and not think %}quick {% endif %}{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}"
        );
        var template = Load("it's {brief}\n", new() { ["think"] = false });
        Assert.Equal("quick system:it's {brief}\n;user:hi;", template.Render("hi"));
        Assert.Equal(
            "system:own;user:hi;",
            template.Render([new("system", "own"), new("user", "hi")], new() { Variables = new() { ["think"] = true } })
        );
    }

    [Fact]
    public void Messages_keep_their_other_members()
    {
        Write(
            "chat_template.jinja",
            "{% for m in messages %}{{ m.content }}{{ m.name }}{{ m.tool_calls }}{% endfor %}"
        );
        var message = new ChatMessage("tool", "x")
        {
            Other = new() { ["name"] = "f", ["tool_calls"] = new JsonArray(1) },
        };
        Assert.Equal("xf[1]", Load().Render([message]));
    }

    [Theory]
    [InlineData("So far ", "[user]q</s>[assistant]So far ")]
    [InlineData("  So far\n", "[user]q</s>[assistant]  So far\n")]
    public void The_last_message_can_be_continued(string begun, string expected)
    {
        WriteConfig(new() { ["chat_template"] = Simple, ["eos_token"] = "</s>" });
        var options = new ChatOptions { AddGenerationPrompt = false, ContinueFinalMessage = true };
        Assert.Equal(expected, Load().Render([new("user", "q"), new("assistant", begun)], options));
        Assert.Throws<ArgumentException>(() => Load().Render([new("user", "q"), new("assistant", " ")], options));
    }

    [Theory]
    [InlineData("[assistant]<think>\n", "<think>\n")] // DeepSeek-R1-Distill, QwQ
    [InlineData("[assistant]\n", "")]
    [InlineData("<start_of_turn>model\n", "")]
    [InlineData("[assistant]\n<think>\n\n</think>\n\n", "<think>\n\n</think>\n\n")] // Qwen3 without thinking
    [InlineData("[assistant]<think>\nWell, ", "<think>\nWell, ")]
    public void An_answer_that_the_chat_template_begins_is_known(string generationPrompt, string expected)
    {
        Write(
            "chat_template.jinja",
            "Use <think> tags.{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
                + "{% if add_generation_prompt %}{{ "
                + JsonValue.Create(generationPrompt).ToJsonString().Replace("\\u003C", "<").Replace("\\u003E", ">")
                + " }}{% endif %}"
        );
        Assert.Equal(expected, Load().AnswerStart([new("user", "What is <think>?")]));
    }

    [Theory]
    [InlineData("User: {question} Assistant: <think>", "<think>")]
    [InlineData("User: {question}\nUse <think> </think> tags.\nAssistant: <think>\n", "<think>\n")]
    [InlineData("{question} <think>\n\n</think>\n\n", "<think>\n\n</think>\n\n")]
    [InlineData("{question} Think inside <think> tags. Answer:", "")]
    [InlineData("<think> {question}", "")]
    [InlineData("r1-zero", "")]
    public void An_answer_that_a_text_begins_is_known(string text, string expected) =>
        Assert.Equal(expected, PromptTemplate.Create(text).AnswerStart([new("user", "1+1?")]));

    [Theory]
    [InlineData("chat", "<s>")] // the template writes it
    [InlineData("{question}!", "<s>")] // it is added
    [InlineData("<s>{question}!", "<s>")] // the text has it
    public void The_beginning_of_text_comes_once(string text, string expected)
    {
        var tokenizer = Tokenizer.FromJson(WithBeginning());
        WriteConfig(new() { ["chat_template"] = Simple, ["bos_token"] = "<s>" });
        var template = PromptTemplate.Create(text, new() { Folder = folder });
        int[] ids = template.Encode(tokenizer, template.Render("ab"));
        int beginning = tokenizer.TokenId(expected)!.Value;
        Assert.Equal(beginning, ids[0]);
        Assert.Equal(1, ids.Count(id => id == beginning));
    }

    [Theory]
    [InlineData("Q: {question}\nA:", null)]
    [InlineData("it's \\ {question}\r\n<think>", null)]
    [InlineData("r1-zero", null)]
    [InlineData("r1-zero-one-shot", null)]
    [InlineData("{system} {question} {question}:", "Be {{ brief }} and 'kind'.")]
    [InlineData("chatml", null)]
    [InlineData("chatml", "Be brief.")]
    [InlineData("chat", null)]
    [InlineData("chat", "Be brief.")]
    public void A_checkpoint_keeps_the_template_it_was_trained_with(string text, string? system)
    {
        var tokenizer = Tokenizer.FromJson(WithBeginning());
        WriteConfig(
            new()
            {
                ["chat_template"] = Simple,
                ["bos_token"] = "<s>",
                ["eos_token"] = "</s>",
                ["model_max_length"] = 7,
            }
        );
        var options = new PromptOptions { Folder = folder, System = system };
        if (text == "chat")
            options = options with { Variables = new() { ["enable_thinking"] = false } };
        var trained = PromptTemplate.Create(text, options);
        trained.WriteTo(folder, tokenizer);

        // As transformers renders and encodes: the template alone, without tokens in front.
        const string question = "What's {question} \\ + 1?\n";
        var kept = Load();
        Assert.Equal(trained.Encode(tokenizer, trained.Render(question)), tokenizer.Encode(kept.Render(question)));
        var config = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, "tokenizer_config.json")))!;
        Assert.Equal(kept.Text, config["chat_template"]!.GetValue<string>());
        Assert.Equal(7, config["model_max_length"]!.GetValue<int>());
    }

    [Fact]
    public void The_models_own_template_is_left_alone()
    {
        string config = new JsonObject { ["chat_template"] = Simple }.ToJsonString();
        Write("tokenizer_config.json", config);
        Load().WriteTo(folder, Tokenizer.FromJson(WithBeginning()));
        PromptTemplate.Create("plain").WriteTo(folder, Tokenizer.FromJson(WithBeginning()));
        Assert.Equal(config, File.ReadAllText(Path.Combine(folder, "tokenizer_config.json")));
        Assert.False(File.Exists(Path.Combine(folder, "chat_template.jinja")));
    }

    [Fact]
    public void A_system_message_needs_a_place()
    {
        foreach (string text in new[] { "r1-zero", "plain", "Q: {question}" })
            Assert.Contains(
                "no place for a system message",
                Assert.Throws<ArgumentException>(() => PromptTemplate.Create(text, new() { System = "s" })).Message
            );
        Assert.Throws<ArgumentException>(() => PromptTemplate.Create("{system} {question}"));
        Assert.Throws<ArgumentException>(() =>
            PromptTemplate.Create("plain", new() { Variables = new() { ["x"] = 1 } })
        );
    }

    [Fact]
    public void A_conversation_that_the_template_refuses_is_an_error_with_its_words()
    {
        Write("chat_template.jinja", "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}");
        Assert.Contains(
            "one only",
            Assert.Throws<JinjaException>(() => Load().Render([new("user", "a"), new("user", "b")])).Message
        );
    }

    /// <summary>tiny-base's tokenizer, with a token in front of prompts as Llama's has.</summary>
    private static byte[] WithBeginning()
    {
        string path = Path.Combine(SharedData.RepositoryRoot, "recipes", "tiny-base", "tokenizer.json");
        var json = JsonNode.Parse(File.ReadAllText(path))!;
        var added = json["added_tokens"]!.AsArray();
        int next = json["model"]!["vocab"]!.AsObject().Max(v => v.Value!.GetValue<int>());
        next = Math.Max(next, added.Select(t => t!["id"]!.GetValue<int>()).DefaultIfEmpty().Max());
        added.Add(
            new JsonObject
            {
                ["id"] = next + 1,
                ["content"] = "<s>",
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = false,
                ["special"] = true,
            }
        );
        json["post_processor"] = JsonNode.Parse(
            """
            {"type": "TemplateProcessing",
             "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {"<s>": {"id": "<s>", "ids": [NEXT], "tokens": ["<s>"]}}}
            """.Replace("NEXT", (next + 1).ToString(System.Globalization.CultureInfo.InvariantCulture))
        );
        return System.Text.Encoding.UTF8.GetBytes(json.ToJsonString());
    }
}
