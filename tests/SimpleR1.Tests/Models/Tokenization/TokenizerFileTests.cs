using System.Text;
using SimpleR1.Models.Tokenization;
using Xunit;

namespace SimpleR1.Tests.Models.Tokenization;

/// <summary>What a tokenizer.json may hold, and how mistakes in it are reported.</summary>
public sealed class TokenizerFileTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-test").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private const string Model =
        """ "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]} """;

    [Theory]
    [InlineData("""{"model": {"type": "Unigram"}}""", "'model.type': the model 'Unigram'")]
    [InlineData(
        """{"normalizer": {"type": "Precompiled"}, MODEL}""",
        "'normalizer.type': the normalizer 'Precompiled'"
    )]
    [InlineData("""{"normalizer": {"type": "NFC", "x": 1}, MODEL}""", "'normalizer.x'")]
    [InlineData("""{"pre_tokenizer": {"type": "UnicodeScripts"}, MODEL}""", "'UnicodeScripts'")]
    [InlineData(
        """{"pre_tokenizer": {"type": "Digits", "individual_digits": true, "x": 1}, MODEL}""",
        "'pre_tokenizer.x'"
    )]
    [InlineData(
        """{"pre_tokenizer": {"type": "Split", "pattern": {"String": "a"}, "behavior": "Odd"}, MODEL}""",
        "'Odd'"
    )]
    [InlineData("""{"decoder": {"type": "WordPiece"}, MODEL}""", "'WordPiece'")]
    [InlineData("""{"decoder": {"type": "Fuse", "x": 1}, MODEL}""", "'decoder.x'")]
    [InlineData("""{"post_processor": {"type": "RobertaProcessing"}, MODEL}""", "'RobertaProcessing'")]
    [InlineData("""{"truncation": {"max_length": 5}, MODEL}""", "'truncation'")]
    [InlineData("""{"padding": {}, MODEL}""", "'padding'")]
    [InlineData("""{"version": "2.0", MODEL}""", "'version'")]
    [InlineData("""{"extra": 1, MODEL}""", "'extra': 1")]
    [InlineData("""{"added_tokens": [{"id": 3, "content": "x", "y": 1}], MODEL}""", "'added_tokens[0].y'")]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": [], "dropout": 0.1}}""", "'model.dropout'")]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": [], "x": 1}}""", "'model.x'")]
    public void What_is_not_supported_is_named(string json, string named) =>
        Assert.Contains(named, Assert.Throws<NotSupportedException>(() => Read(json)).Message);

    [Theory]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": [["a"]]}}""", "'model.merges[0]': expected two tokens")]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": [""]}}""", "'model.merges[0]': expected two tokens")]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": ["a b c"]}}""", "'model.merges[0]'")]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": [["a", 1]]}}""", "'model.merges[0]'")]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}""", "a token that the vocabulary lacks")]
    [InlineData("""{"model": {"vocab": {"a": "0"}, "merges": []}}""", "'model.vocab.a': expected an id")]
    [InlineData("""{"model": {"vocab": {"a": -1}, "merges": []}}""", "'model.vocab.a': expected an id")]
    [InlineData("""{"model": {"vocab": [], "merges": []}}""", "'model.vocab'")]
    [InlineData("""{"model": {"vocab": {"a": 0}}}""", "'model.merges'")]
    [InlineData("""{"model": {"vocab": {"a": 0}, "merges": [], "unk_token": "u"}}""", "'model.unk_token'")]
    [InlineData(
        """{"model": {"vocab": {"a": 0}, "merges": [], "fuse_unk": 1}}""",
        "'model.fuse_unk': expected true or false"
    )]
    [InlineData("{}", "'model': missing")]
    [InlineData("[]", "expected an object")]
    [InlineData(
        """{"normalizer": {"type": "Strip", "strip_left": true}, MODEL}""",
        "'normalizer.strip_right': missing"
    )]
    [InlineData("""{"normalizer": {"type": "Prepend", "prepend": "\ud800"}, MODEL}""", "'normalizer.prepend'")]
    [InlineData("""{"added_tokens": [{"id": 9, "content": "ab"}], MODEL}""", "'ab' is 9 here, but 2 in the vocabulary")]
    [InlineData("""{"added_tokens": {"id": 3}, MODEL}""", "'added_tokens': expected a list")]
    [InlineData("{\n\n\"model\": 1x", "tokenizer.json:3: not valid JSON")]
    public void What_is_damaged_is_named_with_its_line(string json, string named)
    {
        string message = Assert.Throws<InvalidDataException>(() => Read(json)).Message;
        Assert.Contains(named, message);
        Assert.StartsWith("tokenizer.json", message);
    }

    [Fact]
    public void A_mistake_is_reported_with_its_line()
    {
        string message = Assert
            .Throws<InvalidDataException>(() =>
                Read("{\n \"model\": {\n  \"vocab\": {\"a\": 0},\n  \"merges\": 3\n }\n}")
            )
            .Message;
        Assert.StartsWith("tokenizer.json:4: 'model.merges': expected a list of pairs, found 3", message);
    }

    [Fact]
    public void Merges_may_be_texts_or_pairs()
    {
        string pairs = Model.Replace("\"a b\"", "[\"a\", \"b\"]");
        Assert.Equal([2], Read("{MODEL}").Encode("ab"));
        Assert.Equal([2], Read("{" + pairs + "}").Encode("ab"));
    }

    [Fact]
    public void A_character_that_the_vocabulary_lacks_is_an_error_and_not_lost() =>
        Assert.Contains("U+0063", Assert.Throws<InvalidDataException>(() => Read("{MODEL}").Encode("abc")).Message);

    [Theory]
    [InlineData("""{"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": true, "bos_token": "a"}""", true)]
    [InlineData("""{"tokenizer_class": "LlamaTokenizerFast", "bos_token": {"content": "a"}}""", true)]
    [InlineData("""{"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": false, "bos_token": "a"}""", false)]
    [InlineData("""{"tokenizer_class": "Qwen2Tokenizer", "add_bos_token": true, "bos_token": "a"}""", false)]
    public void The_beginning_of_text_follows_tokenizer_config_as_in_transformers(string config, bool added)
    {
        File.WriteAllText(Path.Combine(folder, "tokenizer.json"), "{" + Model + "}");
        File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"), config);
        Assert.Equal(added ? [0, 1] : [1], Tokenizer.Load(folder).EncodePrompt("b"));
    }

    [Fact]
    public void Tokens_after_a_prompt_are_refused()
    {
        var piece = """{"SpecialToken": {"id": "a", "type_id": 0}}""";
        string template =
            $$$"""{"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {{{piece}}}], "pair": [],"""
            + """ "special_tokens": {"a": {"id": "a", "ids": [0], "tokens": ["a"]}}}""";
        string message = Assert
            .Throws<NotSupportedException>(() => Read("{\"post_processor\": " + template + ", MODEL}"))
            .Message;
        Assert.Contains("'post_processor.single': tokens after the text", message);
    }

    [Fact]
    public void A_pointer_of_git_lfs_is_called_that()
    {
        File.WriteAllText(
            Path.Combine(folder, "tokenizer.json"),
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"
        );
        Assert.Contains("git lfs pull", Assert.Throws<InvalidDataException>(() => Tokenizer.Load(folder)).Message);
    }

    private static Tokenizer Read(string json) =>
        Tokenizer.FromJson(Encoding.UTF8.GetBytes(json.Replace("MODEL", Model)));
}
