using CsCheck;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Recipes.Sections;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class RecipeTests
{
    private const string Good = """
        name: tiny
        model: {path: models/tiny}
        data:
          train: {generator: arithmetic, count: 100}
        rewards:
          - name: accuracy
          - {name: format, weight: 0.5}
        """;

    private static readonly string[] Awkward =
    [
        "null",
        "true",
        "1e5",
        "-",
        "~",
        "ä 😀",
        "\u0085\u2028\ufeff",
        "no",
        "a: b",
        "'",
        "multi\nline\n",
    ];

    private static TrainRecipe Parse(string text, params string[] overrides) =>
        RecipeFile.Parse<TrainRecipe>(text, "r.yaml", overrides);

    private static string[] Problems(string text, params string[] overrides) =>
        [.. Assert.Throws<RecipeException>(() => Parse(text, overrides)).Problems.Select(p => p.ToString())];

    [Fact]
    public void Parse_of_a_small_recipe_fills_in_the_defaults()
    {
        var recipe = Parse(Good);
        Assert.Equal("tiny", recipe.Name);
        Assert.Equal("r1-zero", recipe.Model.Template);
        Assert.Equal(["accuracy", "format"], recipe.Rewards.Select(r => r.Name));
        Assert.Equal(0.5, recipe.Rewards[1].Weight);
        Assert.Equal(LossAverage.Token, recipe.Algorithm.LossAverage);
        Assert.Null(recipe.Data.Evaluation);
    }

    [Fact]
    public void Parse_of_a_recipe_with_many_errors_reports_all_of_them_with_their_lines()
    {
        string[] problems = Problems(
            """
            name: tiny
            model:
              path: models/tiny
              max_context: lots
            data: {train: {generator: arithmetic, count: 100}}
            rewards: [{name: acuracy}]
            optimiser: {}
            optimizer:
              lerning_rate: 1e-6
              beta1: 1.5
              schedule: cosin
              beta2: 0.9
              beta2: 0.95
            training: {steps: 10}
            rollout:
              stop: [1, {a: 1}]
              max_new_tokens: 1.5
            """
        );
        Assert.Equal(
            [
                "r.yaml:13: beta2: given twice (first at r.yaml:12); keep one",
                "r.yaml:4: model.max_context: expected a whole number, found 'lots'",
                "r.yaml:7: optimiser: unknown key; did you mean 'optimizer'?",
                "r.yaml:9: optimizer.lerning_rate: unknown key; did you mean 'learning_rate'?",
                "r.yaml:10: optimizer.beta1: must be at least 0, below 1, found 1.5",
                "r.yaml:11: optimizer.schedule: expected one of constant, linear, cosine, found 'cosin'; did you mean 'cosine'?",
                "r.yaml:16: rollout.stop.1: expected text, found a section with keys",
                "r.yaml:17: rollout.max_new_tokens: expected a whole number, found '1.5'",
                "r.yaml:6: rewards.0.name: no built-in reward is called 'acuracy'; did you mean 'accuracy'?",
            ],
            problems
        );
    }

    [Fact]
    public void Parse_without_required_keys_names_each()
    {
        string[] problems = Problems("seed: 3\nmodel: {}\n");
        Assert.Equal(4, problems.Length);
        Assert.StartsWith("r.yaml:2: model.path: missing; expected text", problems[0]);
        foreach (string key in new[] { "name", "data", "rewards" })
            Assert.Contains(problems, p => p.Contains($": {key}: missing"));
    }

    [Theory]
    [InlineData("rollout.samples_per_prompt=1", "rollout.samples_per_prompt")]
    [InlineData("rollout.temperature=0", "rollout.temperature")]
    [InlineData("algorithm.name=grop", "algorithm.name")]
    [InlineData("algorithm.name=gspo", null)]
    [InlineData("rewards.1.judges_answers=true", null)]
    [InlineData("algorithm.clip_low=1", "algorithm.clip_low")]
    [InlineData("algorithm.importance_cap=0.5", "algorithm.importance_cap")]
    [InlineData("optimizer.warmup_steps=100", null)]
    [InlineData("rollout.max_new_tokens=2048", "rollout.max_new_tokens")]
    [InlineData("data.train.path=x.jsonl", "data.train.path")]
    [InlineData("data.train={count: 5}", "data.train.path")]
    [InlineData("data.train={path: x.txt}", "data.train.path")]
    [InlineData("data.train.skip=100", "data.train.skip")]
    [InlineData("data.train.options.operations=x", "data.train.options.operations")]
    [InlineData("rewards=[]", "rewards")]
    [InlineData("rewards.1.name=accuracy", "rewards.1.name")]
    [InlineData("evaluation.max_new_tokens=2048", "evaluation.max_new_tokens")]
    [InlineData("training.tokens_per_micro_batch=64", "training.tokens_per_micro_batch")]
    [InlineData("training.evaluate_every=5", "training.evaluate_every")]
    [InlineData("name=a/b", "name")]
    [InlineData("rewards.0.file=", null)]
    [InlineData("data.train.take=100", null)]
    public void Validation_of_an_impossible_value_names_its_key(string setting, string? key)
    {
        if (key is null)
            Parse(Good, setting);
        else
            Assert.Equal(
                (key, "--set " + setting),
                Assert
                    .Throws<RecipeException>(() => Parse(Good, setting))
                    .Problems.Select(p => (p.Key, p.Origin))
                    .Single()
            );
    }

    [Fact]
    public void Element_types_have_one_spelling()
    {
        Assert.Contains("`f32`, `f16`, `bf16`", RecipeReference.Markdown());
        Assert.DoesNotContain("b-f16", RecipeReference.Markdown());
    }

    [Theory]
    [InlineData("a: [1,\nb: }", "r.yaml:")]
    [InlineData("- just\n- a list", "expected a recipe with keys")]
    [InlineData("a: *nowhere", "unknown anchor *nowhere")]
    public void Parse_of_text_that_is_no_recipe_says_so(string text, string expected) =>
        Assert.Contains(expected, string.Join("\n", Problems(text)));

    [Theory]
    [InlineData("workers: [vllm://a:8000, vllm://b:8000]")]
    [InlineData("workers:\n- vllm://a:8000\n- vllm://b:8000")]
    [InlineData("workers: {servers: [vllm://a:8000, vllm://b:8000]}")]
    [InlineData("", "workers=[vllm://a:8000, vllm://b:8000]")]
    [InlineData("workers: {count: 3}", "workers=[vllm://a:8000, vllm://b:8000]")]
    [InlineData("workers: [vllm://c:1]", "workers.servers=[vllm://a:8000, vllm://b:8000]")]
    [InlineData("", "workers=[vllm://a:8000]", "workers.servers.1=vllm://b:8000")]
    public void Workers_as_a_list_are_the_sections_servers(string yaml, params string[] overrides)
    {
        var recipe = Parse(Good + "\n" + yaml, overrides);
        Assert.Equal(new WorkersSection { Servers = ["vllm://a:8000", "vllm://b:8000"] }, recipe.Workers);
        string text = RecipeFile.Write(recipe);
        Assert.Contains("\nworkers: [\"vllm://a:8000\", \"vllm://b:8000\"]\n", text);
        Assert.Equal(recipe, Parse(text));
        var more = recipe with { Workers = recipe.Workers with { Threads = 2 } }; // more than the list: the section
        Assert.Contains("\nworkers:\n  count: null\n", RecipeFile.Write(more));
        Assert.Equal(more, Parse(RecipeFile.Write(more)));
    }

    [Theory]
    [InlineData(
        "r.yaml:10: workers.servers.1: expected vllm://HOST:PORT, found 'b:8000'",
        "workers:\n- vllm://a:8000\n- b:8000"
    )]
    [InlineData("r.yaml:9: workers.servers.0: expected text, found a section with keys", "workers:\n- {a: 1}")]
    [InlineData("r.yaml:8: workers: expected a section with keys count, ", "workers: 3")]
    [InlineData("--set workers=[b]: workers.servers.0: expected vllm://HOST:PORT, found 'b'", "", "workers=[b]")]
    [InlineData("r.yaml:8: rollout: expected a section with keys ", "rollout: [1]")] // has no such key
    [InlineData(
        "r.yaml:8: workers.placement: workers that share the trainer's weights can't receive into a second buffer",
        "workers: {placement: colocated, overlap: true}"
    )]
    [InlineData(
        "r.yaml:8: workers.placement: servers can't share the trainer's memory",
        "workers: {servers: [vllm://a:8000], placement: colocated}"
    )]
    [InlineData(
        "r.yaml:8: workers.send_device: expected cuda or cuda:N, found 'gpu1'",
        "workers: {servers: [vllm://a:8000], send_device: gpu1}"
    )]
    [InlineData(
        "r.yaml:8: workers.send_device: expected cuda or cuda:N, found 'cuda:0,cuda:1': servers are sent to from one GPU",
        "workers: {servers: [vllm://a:8000], send_device: 'cuda:0,cuda:1'}"
    )]
    [InlineData(
        "r.yaml:8: workers.type: expected bf16, f16 or f32, found 'fp8'",
        "workers: {servers: [vllm://a:8000], type: fp8}"
    )]
    public void Workers_as_a_list_with_an_error_name_its_line(
        string expected,
        string yaml,
        params string[] overrides
    ) => Assert.StartsWith(expected, Assert.Single(Problems(Good + "\n" + yaml, overrides)));

    [Fact]
    public void Parse_of_an_empty_file_asks_for_the_required_keys() =>
        Assert.Contains("name: missing", string.Join("\n", Problems("")));

    [Fact]
    public void Parse_of_quoted_numbers_and_empty_values_is_strict()
    {
        Assert.Contains(
            "training.steps: expected a whole number, found the text '5'",
            Assert.Single(Problems(Good + "\ntraining: {steps: '5'}"))
        );
        Assert.Contains(
            "training.steps: expected a whole number, found nothing",
            Assert.Single(Problems(Good + "\ntraining: {steps: }"))
        );
        Assert.Equal(100, Parse(Good + "\ntraining:\n").Training.Steps);
        Assert.Equal("null", Parse(Good, "model.system='null'").Model.System);
    }

    [Fact]
    public void Write_of_any_recipe_loads_to_an_equal_record()
    {
        var word = Gen.OneOf(
            Gen.String.Where(s => s.EnumerateRunes().All(r => r.Value != 0xfffd)),
            Gen.String[Gen.Char[" \n\t#:'\"-{}[],&*!|>%@`\\~a0"], 0, 12],
            Gen.Int[0, Awkward.Length - 1].Select(i => Awkward[i])
        );
        Gen.Select(word, word, Gen.Double[1e-12, 1e3], Gen.ULong, word.Array[0, 4])
            .Sample(
                (template, system, weight, seed, stop) =>
                {
                    var recipe = Parse(Good) with
                    {
                        Seed = seed,
                        Model = new()
                        {
                            Path = "a b/c",
                            Template = template,
                            System = system,
                        },
                        Rewards =
                        [
                            new()
                            {
                                Name = "accuracy",
                                Weight = weight,
                                AcceptLastNumber = true,
                            },
                            new() { Name = "format", Weight = -weight },
                        ],
                        Rollout = new() { Stop = [.. stop], Temperature = 0.7 },
                        Algorithm = new() { LossAverage = LossAverage.ConstantLength },
                    };
                    string text = RecipeFile.Write(recipe);
                    var read = Parse(text);
                    Assert.Equal(recipe, read);
                    Assert.Equal(text, RecipeFile.Write(read));
                },
                iter: 500
            );
    }

    [Fact]
    public void Write_of_an_sft_recipe_loads_to_an_equal_record()
    {
        var recipe = RecipeFile.Parse<SftRecipe>(
            """
            name: base
            model:
              shape: {tokenizer: models/tok, family: qwen3, heads: 8, key_value_heads: 2}
            data: {train: {path: texts.jsonl}}
            output: models/base
            """,
            "sft.yaml"
        );
        Assert.Equal(8, recipe.Model.Shape!.Heads);
        Assert.Equal(recipe, RecipeFile.Parse<SftRecipe>(RecipeFile.Write(recipe), "written.yaml"));
        var problems = Assert
            .Throws<RecipeException>(() =>
                RecipeFile.Parse<SftRecipe>(
                    RecipeFile.Write(recipe),
                    "written.yaml",
                    ["model.path=x", "model.shape.key_value_heads=3", "training.sequence_length=1000"]
                )
            )
            .Problems;
        Assert.Equal(
            ["training.sequence_length", "model.shape", "model.shape.key_value_heads"],
            problems.Select(p => p.Key)
        );
    }

    [Fact]
    public void Load_of_a_missing_file_names_it() =>
        Assert.Contains(
            "nowhere.yaml",
            Assert.Throws<FileNotFoundException>(() => RecipeFile.Load<TrainRecipe>("nowhere.yaml")).Message
        );

    [Fact]
    public void Reference_in_docs_is_what_the_code_generates()
    {
        string path = Path.Combine(SharedData.RepositoryRoot, "docs", "recipes.md");
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_WRITE_DOCS") == "1")
            RecipeReference.Write(path);
        Assert.True(
            File.Exists(path) && File.ReadAllText(path) == RecipeReference.Markdown(),
            $"{path} is out of date: run the tests once with SIMPLE_R1_WRITE_DOCS=1 and commit it"
        );
    }

    [Fact]
    public void Reference_has_a_description_for_every_key() =>
        Assert.DoesNotContain("|  |\n", RecipeReference.Markdown());

    [Fact]
    public void Auto_leaves_a_number_open_as_leaving_the_key_out_does()
    {
        Assert.Null(Parse(Good).Training.TokensPerMicroBatch);
        Assert.Null(
            Parse(Good + "\ntraining: {tokens_per_micro_batch: auto, shared_prompts: auto}").Training.SharedPrompts
        );
        Assert.Equal(4096, Parse(Good, "training.tokens_per_micro_batch=4096").Training.TokensPerMicroBatch);
        Assert.Contains("expected a whole number", Problems(Good, "training.steps=auto").Single());
    }
}
