using System.Runtime.Versioning;
using SimpleR1.WeightSync.Security;
using Xunit;

namespace SimpleR1.Tests.Cli;

/// <summary>Secrets lie in files that their owner alone can read, and not on command lines.</summary>
[UnsupportedOSPlatform("windows")]
public sealed class SecretTests : IDisposable
{
    private const UnixFileMode Own = UnixFileMode.UserRead | UnixFileMode.UserWrite;

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-secret-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string In(string name) => Path.Combine(folder, name);

    [Fact]
    public async Task New_key_is_written_for_its_owner_alone_and_replaces_no_other_unasked()
    {
        string file = In("key");
        var (code, output, errors) = await ProgramRun.RunAsync("key", "new", "--out", file);
        Assert.True(code == 0, output + errors);
        Assert.Equal("", output); // it is nowhere else
        Assert.Equal(Own, File.GetUnixFileMode(file));
        string first = File.ReadAllText(file);
        Assert.Equal(first, ClusterKey.Parse(first).Text);

        (code, _, errors) = await ProgramRun.RunAsync("key", "new", "--out", file);
        Assert.Equal(1, code);
        Assert.Contains("add --overwrite", errors);
        Assert.Equal(first, File.ReadAllText(file));

        File.SetUnixFileMode(file, Own | UnixFileMode.OtherRead);
        (code, _, errors) = await ProgramRun.RunAsync("key", "new", "--out", file, "--overwrite");
        Assert.True(code == 0, errors);
        Assert.NotEqual(first, File.ReadAllText(file));
        Assert.Equal(Own, File.GetUnixFileMode(file));
    }

    /// <summary>Each command ends before it does anything: its secret is none.</summary>
    [Theory]
    [InlineData("--key", "sr1-no", "The cluster key is not whole", "status", "--join", "127.0.0.1:1")]
    [InlineData("--membership", "no address", "--membership: expected redis://", "head", "--port", "0")]
    [InlineData("--api-key", "short", "expected at least 8 printable", "head", "--port", "0", "--serve", "MODEL")]
    public async Task Secrets_come_from_files_and_one_that_others_can_read_is_a_warning(
        string option,
        string secret,
        string error,
        params string[] command
    )
    {
        string file = In("secret");
        File.WriteAllText(file, secret + "\n");
        string[] arguments = [.. command, option, "@" + file];
        foreach (var mode in new[] { Own, Own | UnixFileMode.GroupRead, Own | UnixFileMode.OtherRead })
        {
            File.SetUnixFileMode(file, mode);
            var (code, output, errors) = await ProgramRun.RunAsync(arguments);
            Assert.NotEqual(0, code);
            Assert.Contains(error, errors);
            Assert.DoesNotContain(secret, output + errors);
            Assert.Equal(mode != Own, errors.Contains($"warning: {option}: other users of this machine can read"));
        }
    }
}
