using System.Text.Json.Nodes;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Models.Tokenization;

/// <summary>Patterns find in every text what the reference finds.</summary>
public sealed class PatternTests
{
    private static readonly string Bytes = Path.Combine(SharedData.RepositoryRoot, "tests/data/tokenizers/gpt2.json");

    [Theory]
    [
        InlineData(@"\p{L}+"),
        InlineData(@"\P{L}+"),
        InlineData(@"[^\p{L}\p{N}\s]+"),
        InlineData(@"\p{Lu}|\p{Letter_Number}")
    ]
    [
        InlineData(@"[𐐀-𐐧]+"),
        InlineData("[a-z😀-🙏]"),
        InlineData("[^😀a]+"),
        InlineData("😀+"),
        InlineData(@"\x{1F600}\x{20}?")
    ]
    [
        InlineData(@"\p{Han}+"),
        InlineData(@"\p{Hiragana}|\p{Katakana}+"),
        InlineData(@"[\p{Han}\p{Cyrillic}]++"),
        InlineData(@"\p{^L}+")
    ]
    [InlineData(@"(?i:'s|'ll|k)"), InlineData("(?i)hello|[a-c]+|é"), InlineData("(?i:[^a-c])+"), InlineData("(?i:𐐀)+")]
    [
        InlineData(@"\s+$"),
        InlineData("^."),
        InlineData(@"\s+(?!\S)"),
        InlineData(@"(?<=\d)\p{L}"),
        InlineData("(?m:.)+?x"),
        InlineData(@"\A\s|\s\z")
    ]
    [
        InlineData("a{2}+"),
        InlineData("a{2}?"),
        InlineData("a{,2}b"),
        InlineData("a{1,2}?"),
        InlineData("(?>a+)b|a++"),
        InlineData("{a}"),
        InlineData("a*?b")
    ]
    [
        InlineData(@"\w+"),
        InlineData(@"[\w]+"),
        InlineData(@"\W"),
        InlineData(@"\bt"),
        InlineData(@"\d+\D"),
        InlineData(@"\h+\H"),
        InlineData(@"\R")
    ]
    [
        InlineData("[[:alpha:]]+"),
        InlineData("[[:punct:]]"),
        InlineData("[[:^space:]]+"),
        InlineData("[[:alnum:]_]+"),
        InlineData("[[:upper:]][[:lower:]]*")
    ]
    [
        InlineData("[a-z&&[^aeiou]]+"),
        InlineData("[^(\\s|[.,!?…。])]+"),
        InlineData("[]a]"),
        InlineData(@"[\]\-\\^]"),
        InlineData("[a-]"),
        InlineData("(a)(?<n>b)?")
    ]
    public void A_pattern_cuts_texts_as_the_reference_does(string pattern)
    {
        var file = (JsonObject)JsonNode.Parse(File.ReadAllText(Bytes))!;
        var split = new JsonObject
        {
            ["type"] = "Split",
            ["pattern"] = new JsonObject { ["Regex"] = pattern },
            ["behavior"] = "Removed",
            ["invert"] = false,
        };
        var bytes = file["pre_tokenizer"]!.DeepClone();
        bytes["use_regex"] = false;
        file["pre_tokenizer"] = new JsonObject
        {
            ["type"] = "Sequence",
            ["pretokenizers"] = new JsonArray(split, bytes),
        };

        var tokenizer = Tokenizer.FromJson(JsonBytes(file));
        var reference = new ReferenceTokenizer(file);
        foreach (string text in AwkwardTexts.All.Where(text => text.Length < 300))
            Assert.True(
                reference.Encode(text).SequenceEqual(tokenizer.Encode(text)),
                $"'{text}': expected '{reference.Decode(reference.Encode(text))}', "
                    + $"found '{reference.Decode(tokenizer.Encode(text))}'"
            );
    }

    [Theory]
    [
        InlineData(@"(a)\1", @"\1"),
        InlineData(@"\X", @"\X"),
        InlineData("(?~a)", "(?~"),
        InlineData(@"\p{Nothing}", "Nothing")
    ]
    [InlineData("(?i:ß)", "several"), InlineData("(?i:ss)", "several"), InlineData("a(?i)b|c", "rest of a pattern")]
    [
        InlineData("(?<!a", "without an end"),
        InlineData("[a", "without an end"),
        InlineData("a)", "unmatched"),
        InlineData("[z-a]", "ends before")
    ]
    public void A_construct_that_cannot_be_translated_is_named(string pattern, string named)
    {
        var file = (JsonObject)JsonNode.Parse(File.ReadAllText(Bytes))!;
        file["normalizer"] = new JsonObject
        {
            ["type"] = "Replace",
            ["pattern"] = new JsonObject { ["Regex"] = pattern },
            ["content"] = "",
        };
        string message = Assert.Throws<NotSupportedException>(() => Tokenizer.FromJson(JsonBytes(file))).Message;
        Assert.Contains(named, message);
        Assert.Contains("'normalizer.pattern'", message);
    }

    private static byte[] JsonBytes(JsonObject file) => System.Text.Encoding.UTF8.GetBytes(file.ToJsonString());
}
