using System.Text.Json.Nodes;
using SimpleR1.Models.Checkpoints;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>The commands other than train, and wrong input, by the real program.</summary>
public sealed class CommandTests : IDisposable
{
    private const string TinyBase = "recipes/tiny-base";
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-cli-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string In(string name) => Path.Combine(folder, name);

    private string Written(string name, string text)
    {
        File.WriteAllText(In(name), text);
        return In(name);
    }

    /// <summary>A copy of the tiny base model, for a test to damage.</summary>
    private string Model(string name)
    {
        Directory.CreateDirectory(In(name));
        foreach (string file in Directory.GetFiles(Path.Combine(SharedData.RepositoryRoot, TinyBase)))
            File.Copy(file, Path.Combine(In(name), Path.GetFileName(file)));
        return In(name);
    }

    private static async Task<string> SucceedsAsync(params string[] arguments)
    {
        var (code, output, errors) = await ProgramRun.RunAsync(arguments);
        Assert.True(code == 0, output + errors);
        return output;
    }

    private static async Task<string> FailsAsync(int code, params string[] arguments)
    {
        var run = await ProgramRun.RunAsync(arguments);
        Assert.True(run.Code == code, $"exit code {run.Code}\n{run.Output}{run.Errors}");
        Assert.DoesNotContain("   at ", run.Errors); // no stack trace for what a person can correct
        Assert.StartsWith("error: ", run.Errors);
        return run.Errors;
    }

    [Fact]
    public async Task Help_is_the_answer_to_nothing_and_usage_errors_point_to_it()
    {
        string help = await SucceedsAsync();
        Assert.Contains("Start here:   simple-r1 train recipes/quickstart.yaml", help);
        Assert.Contains("--resume", await SucceedsAsync("train", "--help"));
        Assert.Contains("'frobnicate'", await FailsAsync(2, "frobnicate"));
        string errors = await FailsAsync(2, "train", "recipes/quickstart.yaml", "--overwritten");
        Assert.Contains("'--overwritten'", errors);
        Assert.Contains("See: simple-r1 train --help", errors);
        Assert.Contains("'--join'", await FailsAsync(2, "worker"));
    }

    [Fact]
    public async Task Generate_continues_a_prompt_and_the_same_seed_gives_the_same_text()
    {
        string[] Command(params string[] prompt) =>
            ["generate", TinyBase, .. prompt, "--max-tokens", "40", "--seed", "5"];
        string text = await SucceedsAsync(Command("--prompt", "Q: 12+30-5\nA:"));
        Assert.True(text.Length > 3, text);
        Assert.Equal(text, await SucceedsAsync(Command("--prompt", "Q: 12+30-5\nA:")));
        Assert.Equal(text, await SucceedsAsync(Command("--escapes", "--prompt", "Q: 12+30-5\\nA:")));
        Assert.Equal(text, await SucceedsAsync(Command("--prompt-file", Written("p.txt", "Q: 12+30-5\nA:"))));
        Assert.NotEqual(text, await SucceedsAsync(Command("--prompt", "Q: 12+30-5\\nA:"))); // as it stands
        Assert.Contains("either --prompt or --prompt-file", await FailsAsync(1, Command()));
    }

    [Fact]
    public async Task Export_writes_a_model_that_loads_again()
    {
        Assert.Contains("parameters in bf16", await SucceedsAsync("export", TinyBase, In("out")));
        using var original = Checkpoint.Load(Path.Combine(SharedData.RepositoryRoot, TinyBase));
        using var exported = Checkpoint.Load(In("out"));
        Assert.True(original.Flat.Equals(exported.Flat)); // bf16 before, bf16 now
        Assert.True(File.Exists(Path.Combine(In("out"), "tokenizer.json")));
        Assert.Contains("not empty", await FailsAsync(1, "export", TinyBase, In("out")));
    }

    [Fact]
    public async Task Sft_trains_on_text_and_writes_a_model()
    {
        string[] command =
        [
            "sft",
            "recipes/tiny-base.yaml",
            "--runs",
            In("runs"),
            .. TrainRun.Set("training.steps=3", "data.train.count=200", "training.tokens_per_batch=2048"),
        ];
        string refused = await FailsAsync(1, command); // the recipe's output is the base model in the repository
        Assert.Contains("recipes/tiny-base.yaml:31: output: recipes/tiny-base: the folder is not empty", refused);

        string[] elsewhere = [.. command, .. TrainRun.Set("output=" + In("model"))];
        string plan = await SucceedsAsync([.. elsewhere, "--dry-run"]);
        Assert.Contains("0.8 million parameters", plan);
        Assert.False(Directory.Exists(In("runs")));
        string output = await SucceedsAsync(elsewhere);
        Assert.Contains("step 3/3", output);
        Assert.Contains("the first 1 are the warm-up", output);
        using var weights = Checkpoint.Load(In("model"));
        Assert.True(weights.AreFinite());
        Assert.True(File.Exists(In("runs/tiny-base/metrics.jsonl")));
    }

    [Fact]
    public async Task Recipe_reference_is_the_page_in_docs() =>
        Assert.Equal(
            File.ReadAllText(Path.Combine(SharedData.RepositoryRoot, "docs", "recipes.md")),
            await SucceedsAsync("recipe-reference")
        );

    [Fact]
    public async Task Doctor_names_what_the_machine_has()
    {
        string output = await SucceedsAsync("doctor");
        foreach (string line in new[] { "processor", "memory", "libtorch", "GFLOP/s" })
            Assert.Contains(line, output);
    }

    [Fact]
    public async Task Plot_draws_a_run_and_names_the_metrics_that_are_missing()
    {
        Directory.CreateDirectory(In("run"));
        Assert.Contains("no metrics to plot", await FailsAsync(1, "plot", In("run")));
        Written(
            "run/metrics.jsonl",
            string.Concat(
                Enumerable
                    .Range(1, 30)
                    .Select(i =>
                        new JsonObject
                        {
                            ["step"] = i,
                            ["reward"] = i / 30.0,
                            ["accuracy"] = 0.5,
                            ["completion_length"] = 9,
                        }.ToJsonString() + "\n"
                    )
            )
        );
        Assert.Contains(In("run/plot.png"), await SucceedsAsync("plot", In("run")));
        Assert.True(new FileInfo(In("run/plot.png")).Length > 10_000);
    }

    [Fact]
    public async Task Recipe_with_many_mistakes_has_all_of_them_reported_with_their_lines()
    {
        string errors = await FailsAsync(
            1,
            "train",
            Written(
                "bad.yaml",
                "nam: x\nseed: -3\nmodel: {path: recipes/tiny-base, templat: a}\n"
                    + "rollout: {prompts_per_step: many, max_new_tokens: 0}\n"
            )
        );
        foreach (
            string problem in new[]
            {
                ":1: nam: unknown key; did you mean 'name'?",
                ":2: seed:",
                ":3: model.templat:",
                ":4: rollout.prompts_per_step:",
                ":4: rollout.max_new_tokens:",
                "data: missing",
            }
        )
            Assert.Contains(problem, errors);
        Assert.Contains("recipe not found", await FailsAsync(1, "train", In("none.yaml")));
    }

    /// <summary>Each is one message, and none leaves a folder that would block the next attempt.</summary>
    [Fact]
    public async Task Wrong_models_are_reported_before_anything_is_written()
    {
        // Models with one thing wrong each.
        string truncated = Model("truncated");
        using (var file = File.OpenWrite(Path.Combine(truncated, "model.safetensors")))
            file.SetLength(100_000);
        string misshapen = Model("misshapen");
        Configure(misshapen, "hidden_size", 64);
        string withoutTokenizer = Model("without-tokenizer");
        File.Delete(Path.Combine(withoutTokenizer, "tokenizer.json"));
        string foreign = Model("foreign");
        Configure(foreign, "vocab_size", 260);
        string endless = Model("endless");
        Configure(endless, "vocab_size", 100);

        const string shape = "'model.embed_tokens.weight': expected shape [264, 64] from config.json, found [264, 128]";
        await RefusesAsync(
            "model.path=" + In("nowhere"),
            "no such folder. Give the path of a Hugging Face model folder"
        );
        await RefusesAsync("model.path=" + withoutTokenizer, "tokenizer.json: not found");
        await RefusesAsync("model.path=" + truncated, "it is truncated");
        await RefusesAsync("model.path=" + misshapen, shape);
        await RefusesAsync("model.path=" + foreign, "the tokenizer does not fit the model");
        await RefusesAsync("model.path=" + endless, "'eos_token_id': 256 is outside the vocabulary of 100");
    }

    private static void Configure(string model, string key, int value)
    {
        string path = Path.Combine(model, "config.json");
        var config = JsonNode.Parse(File.ReadAllText(path))!;
        config[key] = value;
        File.WriteAllText(path, config.ToJsonString());
    }

    /// <summary>Each is one message, and none leaves a folder that would block the next attempt.</summary>
    [Fact]
    public async Task Wrong_data_and_rewards_are_reported_before_anything_is_written()
    {
        string longProblem = Written(
            "long.jsonl",
            new JsonObject { ["question"] = new string('7', 200), ["answer"] = "7" }.ToJsonString() + "\n"
        );
        string noReward = Written(
            "Reward.cs",
            "public static class R { public static double Mine(RewardInput i) => i.Nothing; }"
        );

        string empty = Written("empty.jsonl", "");
        string columns = Written("columns.jsonl", "{\"foo\": 1}\n");
        await RefusesAsync($"data.train={{path: {In("none.jsonl")}}}", "data file not found");
        await RefusesAsync($"data.train={{path: {empty}}}", "the file is empty");
        await RefusesAsync($"data.train={{path: {columns}}}", "no column for a question");
        await RefusesAsync($"data.train={{path: {longProblem}}}", "do not fit the context of 128");
        await RefusesAsync($"rewards=[{{name: Mine, file: {noReward}}}]", "Reward.cs:1: CS1061");
        await RefusesAsync("rewards=[{name: accuarcy}]", "did you mean 'accuracy'?");
    }

    [Fact]
    public async Task Dry_run_prints_the_plan_and_stops()
    {
        string[] train = ["train", "recipes/quickstart.yaml", "--runs", In("runs"), "--dry-run"];
        string plan = await SucceedsAsync(train);
        Assert.Contains("200 steps of 32 prompts × 8 samples = 256", plan);
        Assert.False(Directory.Exists(In("runs")));
        string errors = await FailsAsync(1, [.. train, "--set", "model.path=nowhere", "--set", "workers.device=gpu"]);
        Assert.Contains("2 problems", errors);
    }

    private async Task RefusesAsync(string setting, string message)
    {
        string[] train = ["train", "recipes/quickstart.yaml", "--runs", In("runs")];
        Assert.Contains(message, await FailsAsync(1, [.. train, "--set", setting]));
        Assert.False(Directory.Exists(In("runs/quickstart")), setting);
    }

    [Fact]
    public async Task Resume_needs_a_run_and_excludes_overwrite()
    {
        Assert.Contains(
            "no run of this name to resume",
            await FailsAsync(1, "train", "recipes/quickstart.yaml", "--runs", In("runs"), "--resume")
        );
        Assert.Contains(
            "exclude each other",
            await FailsAsync(1, "train", "recipes/quickstart.yaml", "--runs", In("runs"), "--resume", "--overwrite")
        );
    }

    [Fact]
    public async Task Occupied_port_is_named_and_the_next_attempt_is_not_refused_for_it()
    {
        using var occupied = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        occupied.Start();
        int port = ((System.Net.IPEndPoint)occupied.LocalEndpoint).Port;
        for (int attempt = 0; attempt < 2; attempt++)
            Assert.Contains(
                $"Port {port} of the cluster's head is taken",
                await FailsAsync(
                    1,
                    "train",
                    "recipes/quickstart.yaml",
                    "--runs",
                    In("runs"),
                    "--set",
                    $"workers.port={port}"
                )
            );
    }

    [Fact]
    public async Task Weights_that_diverge_end_the_run_with_the_reason()
    {
        var run = await ProgramRun.RunAsync(
            "train",
            "recipes/quickstart.yaml",
            "--runs",
            In("runs"),
            "--set",
            "optimizer.learning_rate=3e38",
            "--set",
            "optimizer.warmup_steps=0",
            "--set",
            "data.evaluation=",
            "--set",
            "rollout.prompts_per_step=2",
            "--set",
            "workers.count=1",
            "--set",
            "workers.kv_cache_mib=8"
        );
        Assert.Equal(1, run.Code);
        Assert.Contains("not finite", run.Errors);
        Assert.DoesNotContain("   at ", run.Errors);
        Assert.Empty(Directory.GetDirectories(In("runs/quickstart/checkpoints"))); // weights with NaN are not saved
    }
}
