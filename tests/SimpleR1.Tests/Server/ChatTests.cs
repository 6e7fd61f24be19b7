using SimpleR1.Models.Prompts;
using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>Conversations of the HTTP API through a model's chat template.</summary>
public sealed class ChatTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-chat-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private Task<TestServer> StartAsync(string template)
    {
        File.WriteAllText(Path.Combine(folder, "chat_template.jinja"), template);
        return TestServer.StartAsync(
            new() { ChatTemplate = PromptTemplate.Create(PromptTemplate.Chat, new() { Folder = folder }) }
        );
    }

    [Theory]
    [InlineData("""[{"role": "user", "content": "a"}]""", "", "user:a;assistant:")]
    [InlineData(
        """[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]""",
        "",
        "user:a\nb;assistant:"
    )]
    [InlineData("""[{"role": "developer", "content": "a"}]""", "", "system:a;assistant:")]
    [InlineData("""[{"role": "user", "content": "a"}]""", ", \"add_generation_prompt\": false", "user:a;")]
    [InlineData(
        """[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]""",
        ", \"continue_final_message\": true",
        "user:a;assistant:b"
    )]
    [InlineData(
        """[{"role": "user", "content": "a"}]""",
        ", \"chat_template_kwargs\": {\"enable_thinking\": false}",
        "user:a;assistant:<no>"
    )]
    [InlineData(
        """[{"role": "user", "content": "a"}]""",
        ", \"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\"}}]",
        "{\"name\": \"f\"};user:a;assistant:"
    )]
    [InlineData(
        """[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": 1}"}}]}]""",
        "",
        "assistant:f(1);assistant:"
    )]
    public async Task A_conversation_is_rendered_by_the_models_template(string messages, string more, string expected)
    {
        await using var server = await StartAsync(
            "{% for t in tools or [] %}{{ t.function | tojson }};{% endfor %}"
                + "{% for m in messages %}{{ m.role }}:{{ m.content }}"
                + "{% for c in m.tool_calls or [] %}{{ c.function.name }}({{ c.function.arguments.x }}){% endfor %};{% endfor %}"
                + "{% if add_generation_prompt %}assistant:{% if enable_thinking is false %}<no>{% endif %}{% endif %}"
        );
        var answer = await server.PostAsync("/tokenize", $"{{\"messages\": {messages}{more}}}");
        int[] ids = [.. answer.GetProperty("tokens").EnumerateArray().Select(t => t.GetInt32())];
        Assert.Equal(expected, TestServer.Tokenizer.Decode(ids, withSpecialTokens: true));
        await server.PostAsync("/v1/chat/completions", $"{{\"messages\": {messages}{more}, \"max_tokens\": 2}}");
    }

    [Theory]
    [InlineData("", "tools", ", \"tools\": [{\"type\": \"function\"}]", "no place for tools")]
    [InlineData("{{ raise_exception('roles must alternate') }}", "messages", "", "roles must alternate")]
    [InlineData("", "tool_choice", ", \"tool_choice\": \"required\"", "only auto and none")]
    [InlineData("", "chat_template_kwargs", ", \"chat_template_kwargs\": [1]", "an object")]
    public async Task What_the_template_refuses_is_a_400(string template, string field, string more, string problem)
    {
        await using var server = await StartAsync(template + "{{ messages[0].content }}");
        var (status, message, param, _) = await server.FailAsync(
            "/v1/chat/completions",
            $"{{\"messages\": [{{\"role\": \"user\", \"content\": \"a\"}}]{more}}}"
        );
        Assert.Equal((400, field), (status, param));
        Assert.Contains(problem, message);
    }
}
