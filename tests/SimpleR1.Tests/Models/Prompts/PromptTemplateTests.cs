using SimpleR1.Models.Prompts;
using Xunit;

namespace SimpleR1.Tests.Models.Prompts;

public sealed class PromptTemplateTests
{
    [Fact]
    public void Built_in_templates_hold_the_question_once()
    {
        foreach (string name in BuiltInTemplates.Names.Where(n => n != PromptTemplate.Chat))
        {
            string text = PromptTemplate.Create(name).Render("What is {1 + 1}?");
            Assert.Equal(2, text.Split("What is {1 + 1}?").Length);
            Assert.DoesNotContain("{question}", text);
            Assert.DoesNotContain("{system}", text);
        }
    }

    [Fact]
    public void Chatml_renders_the_system_message() =>
        Assert.Equal(
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            PromptTemplate.Create("chatml", new() { System = "Be brief." }).Render("Hi")
        );

    [Fact]
    public void A_custom_text_needs_the_placeholder()
    {
        Assert.Equal("Q: 2+2\nA:", PromptTemplate.Create("Q: {question}\nA:").Render("2+2"));
        Assert.Contains("r1-zero", Assert.Throws<ArgumentException>(() => PromptTemplate.Create("r1zero")).Message);
    }
}
