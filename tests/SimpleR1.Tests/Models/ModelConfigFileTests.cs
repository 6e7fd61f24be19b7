using SimpleR1.Models;
using Xunit;

namespace SimpleR1.Tests.Models;

public sealed class ModelConfigFileTests
{
    private const string Llama = """
        {"architectures":["LlamaForCausalLM"],"vocab_size":100,"hidden_size":64,"intermediate_size":128,
         "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"max_position_embeddings":512,
         "rms_norm_eps":1e-5,"rope_theta":500000.0,"tie_word_embeddings":false,"hidden_act":"silu","eos_token_id":[1,2]}
        """;

    [Fact]
    public void Llama_config_is_read()
    {
        var config = ModelConfigFile.Parse(Llama, """{"eos_token_id": 7}""");
        Assert.Equal(
            (ModelFamily.Llama, 16, 2, 500_000.0),
            (config.Family, config.HeadDimension, config.GroupSize, config.RopeTheta)
        );
        Assert.Equal([7], config.EosTokenIds);
        Assert.Equal([1, 2], ModelConfigFile.Parse(Llama).EosTokenIds);
    }

    [Theory]
    [InlineData("\"hidden_act\":\"silu\"", "\"hidden_act\":\"gelu\"", "'hidden_act': \"gelu\"")]
    [InlineData("\"hidden_act\":\"silu\"", "\"attention_bias\":true", "attention_bias")]
    [InlineData("\"hidden_act\":\"silu\"", "\"quantization_config\":{\"bits\":4}", "quantization_config")]
    [InlineData("\"hidden_act\":\"silu\"", "\"final_logit_softcapping\":30.0", "final_logit_softcapping")]
    [InlineData("\"hidden_act\":\"silu\"", "\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":4.0}", "yarn")]
    [InlineData("\"hidden_act\":\"silu\"", "\"layer_types\":[\"sliding_attention\"]", "layer_types")]
    [InlineData("LlamaForCausalLM", "GptNeoXForCausalLM", "GptNeoXForCausalLM")]
    public void Unsupported_options_throw_and_are_named(string from, string to, string named) =>
        Assert.Contains(
            named,
            Assert.Throws<NotSupportedException>(() => ModelConfigFile.Parse(Llama.Replace(from, to))).Message
        );

    [Theory]
    [InlineData("\"num_key_value_heads\":2", "\"num_key_value_heads\":3", "evenly")]
    [InlineData("\"vocab_size\":100,", "", "'vocab_size': missing")]
    [InlineData("\"hidden_size\":64", "\"hidden_size\":-64", "positive size")]
    [InlineData("\"hidden_act\":\"silu\"", "\"head_dim\":15", "even size")]
    public void Sizes_that_make_no_sense_throw(string from, string to, string message) =>
        Assert.Contains(
            message,
            Assert.Throws<InvalidDataException>(() => ModelConfigFile.Parse(Llama.Replace(from, to))).Message
        );

    [Fact]
    public void Every_family_written_is_read_back_equal()
    {
        foreach (var family in ModelFamily.All)
        {
            var config = TinyModels.Config(family) with
            {
                RopeScaling = family == ModelFamily.Llama ? new(8, 1, 4, 64) : null,
                BosTokenId = 0,
            };
            var again = ModelConfigFile.Parse(ModelConfigFile.ToJson(config));
            Assert.Equal(config with { EosTokenIds = [] }, again with { EosTokenIds = [] });
            Assert.Equal(config.EosTokenIds, again.EosTokenIds);
        }
    }
}
