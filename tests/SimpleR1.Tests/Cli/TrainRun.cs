namespace SimpleR1.Tests.Cli;

/// <summary>The quickstart, small: 4 prompts of 4 samples a step, two updates on them, a frozen reference.</summary>
internal static class TrainRun
{
    public static string[] Command(string runs, string name, params string[] more) =>
        [
            "train",
            "recipes/quickstart.yaml",
            "--runs",
            runs,
            .. Set(
                "name=" + name,
                "data.train.count=100",
                "data.evaluation.count=8",
                "rollout.prompts_per_step=4",
                "rollout.samples_per_prompt=4",
                "algorithm.mini_batches=2",
                "algorithm.kl_coefficient=0.01",
                "optimizer.warmup_steps=0",
                "training.steps=10",
                "training.checkpoint_every=3",
                "training.evaluate_every=4",
                "workers.count=1",
                "workers.kv_cache_mib=8"
            ),
            .. more,
        ];

    public static string[] Set(params string[] values) => [.. values.SelectMany(v => new[] { "--set", v })];

    /// <summary>The rows of a file of JSON lines, without what a clock measured.</summary>
    public static string[] Rows(string path)
    {
        static bool IsTime(string key) =>
            key.EndsWith("_seconds", StringComparison.Ordinal) || key.EndsWith("_per_second", StringComparison.Ordinal);
        var rows = JsonLines.Read(path).ToArray();
        foreach (var row in rows)
        foreach (string time in row.Select(p => p.Key).Where(IsTime).ToArray())
            row.Remove(time);
        return [.. rows.Select(row => row.ToJsonString())];
    }
}
