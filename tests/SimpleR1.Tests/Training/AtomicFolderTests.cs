using System.Diagnostics;
using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class AtomicFolderTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-runs-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void AtomicFolder_appears_complete_with_good_hashes()
    {
        string checkpoint = Path.Combine(folder, "checkpoints", "step-5");
        AtomicFolder.Write(
            checkpoint,
            inside =>
            {
                Assert.False(Directory.Exists(checkpoint));
                File.WriteAllText(Path.Combine(inside, "weights.bin"), "abc");
                Directory.CreateDirectory(Path.Combine(inside, "optimizer"));
                File.WriteAllText(Path.Combine(inside, "optimizer", "moments.bin"), "");
            }
        );
        AtomicFolder.Verify(checkpoint);
        Assert.Equal(
            ["manifest.json", "optimizer/moments.bin", "weights.bin"],
            Directory
                .GetFiles(checkpoint, "*", SearchOption.AllDirectories)
                .Select(f => Path.GetRelativePath(checkpoint, f))
                .Order(StringComparer.Ordinal)
        );
        // sha256("abc"), FIPS 180-2
        Assert.Contains(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            File.ReadAllText(Path.Combine(checkpoint, "manifest.json"))
        );
        Assert.Equal([checkpoint], Directory.GetFileSystemEntries(Path.Combine(folder, "checkpoints")));
    }

    [Fact]
    public void AtomicFolder_with_a_file_that_was_moved_and_linked_is_good()
    {
        string checkpoint = Path.Combine(folder, "step-5");
        AtomicFolder.Write(checkpoint, inside => File.WriteAllText(Path.Combine(inside, "weights.bin"), "abc"));
        string moved = Path.Combine(folder, "elsewhere.bin");
        File.Move(Path.Combine(checkpoint, "weights.bin"), moved);
        File.CreateSymbolicLink(Path.Combine(checkpoint, "weights.bin"), moved);

        AtomicFolder.Verify(checkpoint);
        File.AppendAllText(moved, "d");
        Assert.Contains(
            "weights.bin has 4 bytes, expected 3",
            Assert.Throws<InvalidDataException>(() => AtomicFolder.Verify(checkpoint)).Message
        );
    }

    [Fact]
    public void AtomicFolder_that_fails_leaves_the_one_before()
    {
        string checkpoint = Path.Combine(folder, "last");
        AtomicFolder.Write(checkpoint, inside => File.WriteAllText(Path.Combine(inside, "a"), "first"));
        Assert.Throws<FormatException>(() =>
            AtomicFolder.Write(
                checkpoint,
                inside =>
                {
                    File.WriteAllText(Path.Combine(inside, "a"), "second");
                    throw new FormatException();
                }
            )
        );
        AtomicFolder.Verify(checkpoint);
        Assert.Equal("first", File.ReadAllText(Path.Combine(checkpoint, "a")));
        Assert.Equal([checkpoint], Directory.GetFileSystemEntries(folder));
        AtomicFolder.Write(checkpoint, inside => File.WriteAllText(Path.Combine(inside, "b"), "third"));
        Assert.Equal(["b", "manifest.json"], Directory.GetFiles(checkpoint).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void Verify_names_every_damaged_file()
    {
        string checkpoint = Path.Combine(folder, "c");
        AtomicFolder.Write(
            checkpoint,
            inside =>
            {
                foreach (string name in new[] { "a", "b", "c", "d" })
                    File.WriteAllText(Path.Combine(inside, name), "contents");
            }
        );
        File.WriteAllText(Path.Combine(checkpoint, "a"), "Contents");
        File.WriteAllText(Path.Combine(checkpoint, "b"), "content");
        File.Delete(Path.Combine(checkpoint, "c"));
        string message = Assert.Throws<InvalidDataException>(() => AtomicFolder.Verify(checkpoint)).Message;
        Assert.EndsWith("a has other contents (SHA-256 differs); b has 7 bytes, expected 8; c is missing", message);
        File.Delete(Path.Combine(checkpoint, "manifest.json"));
        Assert.Contains(
            "no manifest.json",
            Assert.Throws<InvalidDataException>(() => AtomicFolder.Verify(checkpoint)).Message
        );
    }

    [Fact]
    public void AtomicFolder_on_a_full_disk_says_what_to_do_and_keeps_the_one_before()
    {
        string disk = Path.Combine(folder, "disk");
        Directory.CreateDirectory(disk);
        Assert.SkipUnless(
            Environment.IsPrivilegedProcess && Run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk),
            "needs the right to mount a small tmpfs"
        );
        try
        {
            AtomicFolder.Write(
                Path.Combine(disk, "step-1"),
                inside => File.WriteAllBytes(Path.Combine(inside, "weights"), new byte[400_000])
            );
            string message = Assert
                .Throws<IOException>(() =>
                    AtomicFolder.Write(
                        Path.Combine(disk, "step-2"),
                        inside => File.WriteAllBytes(Path.Combine(inside, "weights"), new byte[900_000])
                    )
                )
                .Message;
            Assert.StartsWith($"disk full while writing {Path.Combine(disk, "step-2")}: ", message);
            Assert.Contains("continue with --resume", message);
            AtomicFolder.Verify(Path.Combine(disk, "step-1"));
            Assert.Equal([Path.Combine(disk, "step-1")], Directory.GetFileSystemEntries(disk));
        }
        finally
        {
            Assert.True(Run("umount", disk));
        }

        static bool Run(string program, params string[] arguments)
        {
            try
            {
                using var process = Process.Start(
                    new ProcessStartInfo(program, arguments) { RedirectStandardError = true }
                )!;
                process.WaitForExit();
                return process.ExitCode == 0;
            }
            catch (System.ComponentModel.Win32Exception)
            {
                return false;
            } // no such program here
        }
    }
}
