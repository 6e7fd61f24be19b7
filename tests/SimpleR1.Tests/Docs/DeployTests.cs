using System.CommandLine;
using System.Diagnostics;
using Xunit;
using YamlDotNet.RepresentationModel;

namespace SimpleR1.Tests.Docs;

/// <summary>The files in deploy/ against the program: they can't be run here, but what they would start must exist.</summary>
public sealed class DeployTests
{
    private static string Deploy => Path.Combine(SharedData.RepositoryRoot, "deploy");

    private static Command Named(string name) => Pages.Commands.Single(c => c.Name == name);

    private static void RequireValid(IEnumerable<string> words)
    {
        string[] all = [.. words];
        var parsed = Named(all[0]).Parse(all[1..]);
        Assert.True(
            parsed.Errors.Count == 0,
            $"{string.Join(' ', all)}: {string.Join("; ", parsed.Errors.Select(e => e.Message))}"
        );
    }

    [Theory]
    [InlineData("cluster.yaml", 3)]
    [InlineData("train.yaml", 1)]
    public void Manifests_are_yaml_whose_commands_the_program_has(string file, int commands)
    {
        var yaml = new YamlStream();
        yaml.Load(new StringReader(File.ReadAllText(Path.Combine(Deploy, "kubernetes", file))));
        int found = 0;
        foreach (var document in yaml.Documents)
        foreach (
            var sequence in document
                .RootNode.AllNodes.OfType<YamlMappingNode>()
                .SelectMany(m => m.Children)
                .Where(c => c.Key.ToString() is "args" or "command")
                .Select(c => (YamlSequenceNode)c.Value)
        )
        {
            string[] words = [.. sequence.Select(n => n.ToString())];
            if (words is ["sh", "-c", var script])
                words =
                [
                    .. script
                        .Split(" $(if")[0]
                        .Replace("exec ", "", StringComparison.Ordinal)
                        .Split(' ')
                        .Select(w => w.Replace("\"$RUN\"", "x", StringComparison.Ordinal)),
                ];
            RequireValid(words[0] == "simple-r1" ? words[1..] : words);
            found++;
        }
        Assert.Equal(commands, found);
    }

    [Fact]
    public void Batch_script_is_a_script_whose_commands_the_program_has()
    {
        string path = Path.Combine(Deploy, "slurm", "train.sbatch");
        using var bash = Process.Start("bash", ["-n", path])!;
        bash.WaitForExit();
        Assert.Equal(0, bash.ExitCode);
        string[] commands =
        [
            .. File.ReadLines(path)
                .Where(l => l.Contains("srun ") && l.Contains(" simple-r1 "))
                .Select(l => l.Split(" simple-r1 ")[1].TrimEnd('&', ' ')),
        ];
        Assert.Equal(3, commands.Length);
        foreach (string command in commands)
            RequireValid(command.Replace("\"$port\"", "7400").Replace(" \"$@\"", "").Replace("\"", "").Split(' '));
    }
}
