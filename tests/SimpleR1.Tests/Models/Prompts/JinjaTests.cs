using System.Text.Json.Nodes;
using SimpleR1.Models.Prompts.Jinja;
using Xunit;

namespace SimpleR1.Tests.Models.Prompts;

/// <summary>Templates against what jinja2 makes of them, as tests/data/chat-templates/make_golden.py has written it.</summary>
public sealed class JinjaTests
{
    private static readonly DateTime Now = new(2025, 3, 7, 14, 5, 9);
    private static readonly string Golden = Path.Combine(SharedData.RepositoryRoot, "tests", "data", "chat-templates");

    [Fact]
    public void Expressions_and_small_templates_are_those_of_jinja2()
    {
        var golden = Read(Path.Combine(Golden, "expressions.json"));
        var variables = golden["variables"]!.AsObject();
        var wrong = new List<string>();
        foreach (var example in golden["cases"]!.AsArray())
        {
            string template = example![0]!.GetValue<string>();
            string? expected = example[1]?.GetValue<string>();
            string? found = Render(template, variables, out string? problem);
            if (expected != found)
                wrong.Add($"{template}\n  expected {expected ?? "an error"}\n  found    {found ?? problem}");
        }
        Assert.True(golden["cases"]!.AsArray().Count > 600);
        Assert.Empty(wrong);
    }

    [Fact]
    public void Conversations_are_those_of_jinja2() =>
        CheckConversations(Path.Combine(Golden, "templates"), Path.Combine(Golden, "conversations.json"));

    [Fact]
    public void Conversations_of_published_templates_are_those_of_jinja2()
    {
        string folder = SharedData.Require("chat-templates");
        CheckConversations(folder, Path.Combine(folder, "conversations.json"));
    }

    private static void CheckConversations(string folder, string file)
    {
        var golden = Read(file);
        var wrong = new List<string>();
        foreach (var (name, cases) in golden["templates"]!.AsObject())
        {
            string template = File.ReadAllText(Path.Combine(folder, name + ".jinja"));
            foreach (var example in cases!.AsArray())
            {
                var variables = golden["tokens"]!.DeepClone().AsObject();
                variables["messages"] = golden["conversations"]![example![0]!.GetValue<string>()]!.DeepClone();
                variables["tools"] = example[1]!.GetValue<bool>() ? golden["tools"]!.DeepClone() : null;
                variables["documents"] = null;
                foreach (var (option, value) in example[2]!.AsObject())
                    variables[option] = value?.DeepClone();
                string? expected = example[3]?.GetValue<string>();
                string? found = Render(template, variables, out string? problem);
                if (expected != found)
                    wrong.Add($"{name} {example[0]} {example[2]}: expected {expected}, found {found ?? problem}");
            }
        }
        Assert.NotEmpty(golden["templates"]!.AsObject());
        Assert.Empty(wrong);
    }

    private static JsonObject Read(string path) => JsonNode.Parse(File.ReadAllText(path))!.AsObject();

    private static string? Render(string template, JsonObject variables, out string? problem)
    {
        problem = null;
        try
        {
            return JinjaTemplate.Parse(template).Render(variables, Now);
        }
        catch (JinjaException e)
        {
            problem = e.Message;
            return null;
        }
    }

    [Theory]
    [InlineData("a\n{% if x %}\n{{ y | nope }}{% endif %}", 3, "the filter 'nope' is not supported")]
    [InlineData("{{ x is nope }}", 1, "the test 'nope' is not supported")]
    [InlineData("\n\n{{ nope(1) }}", 3, "the function 'nope' is not supported")]
    [InlineData("{{ x.encode('utf-8') }}", 1, "the method 'encode' is not supported")]
    [InlineData("{{ l | map('nope') }}", 1, "the filter 'nope' is not supported")]
    [InlineData("{{ l | selectattr('a', 'nope') }}", 1, "the test 'nope' is not supported")]
    [InlineData("{{ l | indent(depth=4) }}", 1, "indent has no argument 'depth'")]
    [InlineData("{% include 'x' %}", 1, "'include' is not supported")]
    [InlineData("{% for x in y recursive %}{% endfor %}", 1, "recursive loop is not supported")]
    [InlineData("{% for x in y %}", 1, "'endfor' is missing")]
    [InlineData("{% if x %}{% endfor %}", 1, "unknown tag 'endfor'")]
    [InlineData("{{ '\\N{BULLET}' }}", 1, "\\N{…} is not supported")]
    public void What_is_not_supported_is_named_when_a_template_is_read(string template, int line, string problem)
    {
        var error = Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(template));
        Assert.Equal(line, error.Line);
        Assert.Contains(problem, error.Message);
    }

    [Theory]
    [InlineData("\n{{ messages[0].content }}", 2, "'messages' is undefined")]
    [InlineData("{% if true %}\n{{ raise_exception('roles must alternate') }}{% endif %}", 2, "roles must alternate")]
    [InlineData("{{ {}.a.b }}", 1, "'dict object' has no attribute 'a'")]
    [InlineData("{{ 'a' + 1 }}", 1, "can only concatenate str")]
    public void Errors_while_rendering_have_the_line(string template, int line, string problem)
    {
        var error = Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(template).Render([], Now));
        Assert.Equal(line, error.Line);
        Assert.Contains(problem, error.Message);
    }

    [Theory]
    [InlineData("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")]
    [InlineData("{% set ns = namespace(s='x') %}{% for a in range(99999) %}{% set ns.s = ns.s + ns.s %}{% endfor %}")]
    [InlineData("{% set ns = namespace(s=[1]) %}{% for a in range(99999) %}{% set ns.s = ns.s + ns.s %}{% endfor %}")]
    [InlineData("{% set ns = namespace(s=3) %}{% for a in range(99999) %}{% set ns.s = ns.s * ns.s %}{% endfor %}")]
    [InlineData("{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}")]
    [InlineData("{{ 'x' * 10 ** 12 }}")]
    [InlineData("{{ 'x' | center(10 ** 12) }}")]
    [InlineData("{{ '%999999999d' % 1 }}")]
    [InlineData("{{ ('x' * 99999) | replace('x', 'y' * 99999) | length }}")]
    [InlineData("{{ ['x' * 99999] * 99999 | int | join | length }}")]
    [InlineData("{{ [1] * 10 ** 12 }}")]
    [InlineData("{{ 9 ** (9 ** 9) }}")]
    [InlineData("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")]
    [InlineData(
        "{% set ns = namespace(x=0) %}{% for a in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}"
    )]
    [InlineData(
        "{% set ns = namespace(x=0) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}"
    )]
    [InlineData(
        "{% set ns = namespace(x=0) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | length }}{{ ns.x }}"
    )]
    public void No_template_runs_for_ever_or_fills_the_memory(string template)
    {
        long start = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(template).Render([], Now));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - start, 0, 12L << 30);
    }

    [Fact]
    public void Deep_nesting_is_an_error()
    {
        string deep = "{{ " + new string('(', 100_000) + "1" + new string(')', 100_000) + " }}";
        Assert.Contains("nested too deeply", Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(deep)).Message);
        string chain = "{{ 1" + string.Concat(Enumerable.Repeat(" + 1", 200_000)) + " }}";
        Assert.Throws<JinjaException>(() => JinjaTemplate.Parse(chain).Render([], Now));
    }
}
