using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using System.Text.Json.Nodes;
using SimpleR1.Cluster;
using SimpleR1.Training.Rewards;
using SimpleR1.Training.Runs;
using Xunit;

namespace SimpleR1.Tests.Training;

public sealed class RunTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-runs-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private static Dictionary<string, double> Values(double reward) =>
        new() { ["reward"] = reward, ["loss/kl"] = 0.25 };

    [Fact]
    public void RunFolder_that_exists_is_refused_resumed_or_replaced_as_asked()
    {
        var run = RunFolder.Open(folder, "a");
        File.WriteAllText(run.Recipe, "name: a\n");
        Assert.Contains("--resume", Assert.Throws<IOException>(() => RunFolder.Open(folder, "a")).Message);
        Assert.Equal(run.Path, RunFolder.Open(folder, "a", ExistingRun.Resume).Path);
        Assert.True(File.Exists(run.Recipe));
        RunFolder.Open(folder, "a", ExistingRun.Overwrite);
        Assert.False(File.Exists(run.Recipe));
        Assert.Contains(
            "no run of this name to resume",
            Assert.Throws<IOException>(() => RunFolder.Open(folder, "b", ExistingRun.Resume)).Message
        );
    }

    [Fact]
    public void RunFolder_does_not_overwrite_what_is_no_run()
    {
        Directory.CreateDirectory(Path.Combine(folder, "precious"));
        File.WriteAllText(Path.Combine(folder, "precious", "thesis.txt"), "x");
        Assert.Contains(
            "will not be overwritten",
            Assert.Throws<IOException>(() => RunFolder.Open(folder, "precious", ExistingRun.Overwrite)).Message
        );
        Assert.True(File.Exists(Path.Combine(folder, "precious", "thesis.txt")));
    }

    [Fact]
    public void Metrics_of_a_resumed_run_lose_the_rows_after_the_checkpoint()
    {
        var run = RunFolder.Open(folder, "m");
        using (var metrics = new MetricsWriter(run))
            for (int step = 1; step <= 5; step++)
            {
                metrics.Write(step, Values(step));
                Assert.Equal(step, JsonLines.Read(run.Metrics).Count()); // readable while being written
            }
        File.AppendAllText(run.Metrics, "{\"step\": 6, \"rew"); // cut short by a crash
        using (var metrics = new MetricsWriter(run, resumedStep: 3))
        {
            metrics.Write(4, Values(-4));
            metrics.Write(5, Values(double.NaN));
        }
        var (steps, values) = MetricsWriter.Read(run.Metrics, "reward");
        Assert.Equal([1, 2, 3, 4], steps);
        Assert.Equal([1, 2, 3, -4], values);
        Assert.Equal("NaN", (string)JsonLines.Read(run.Metrics).Last()["reward"]!);
        File.WriteAllText(run.Metrics, "{\"step\": 1\n{\"step\": 2}\n");
        Assert.Contains(
            "metrics.jsonl:1",
            Assert.Throws<InvalidDataException>(() => JsonLines.Read(run.Metrics).ToList()).Message
        );
    }

    [Fact]
    public void Samples_are_readable_and_cut_on_resume()
    {
        var run = RunFolder.Open(folder, "s");
        var score = new Score(1.5, new Dictionary<string, double> { ["accuracy"] = 1, ["format"] = 0.5 });
        using (var samples = new SamplesWriter(run))
            for (int step = 1; step <= 3; step++)
                samples.Write(new(step, "Was ist 2 < 3 + 4?", "ja", "<think>ü 😀</think>", score, 7, false));
        using (new SamplesWriter(run, resumedStep: 2)) { }
        string[] lines = File.ReadAllLines(run.Samples);
        Assert.Equal(2, lines.Length);
        Assert.Contains("<think>ü", lines[0]);
        Assert.Equal(0.5, (double)JsonNode.Parse(lines[1])!["rewards"]!["format"]!);
    }

    /// <summary>An independent reader of TFRecords and the few proto fields, with a bitwise CRC-32C.</summary>
    [Fact]
    public void TensorBoard_events_are_records_with_good_checksums_and_the_values_written()
    {
        string events = Path.Combine(folder, "events");
        using (var writer = new TensorBoardWriter(events))
            for (int step = 0; step < 300; step += 100)
                writer.Scalar("train/reward", step, step / 7.0);
        using (new TensorBoardWriter(events, purgeStep: 200)) { }
        var files = Directory.GetFiles(events).Order().ToArray();
        Assert.Equal(2, files.Length);
        Assert.All(files, f => Assert.StartsWith("events.out.tfevents.", Path.GetFileName(f)));
        var records = Records(files[0]);
        Assert.Equal(4, records.Count);
        Assert.Contains("brain.Event:2", Encoding.UTF8.GetString(records[0]));
        for (int i = 0; i < 3; i++)
        {
            var fields = Fields(records[i + 1]);
            Assert.Equal((ulong)(100 * i), fields.Where(f => f.Field == 2).Select(f => f.Number).SingleOrDefault());
            var value = Fields(Fields(fields.Single(f => f.Field == 5).Bytes).Single().Bytes);
            Assert.Equal("train/reward", Encoding.UTF8.GetString(value.Single(f => f.Field == 1).Bytes));
            Assert.Equal((float)(100 * i / 7.0), BitConverter.ToSingle(value.Single(f => f.Field == 2).Bytes));
        }
        Assert.Equal(1ul, Fields(Fields(Records(files[1])[1]).Single(f => f.Field == 7).Bytes).Single().Number); // SessionLog.START
        Assert.Equal(0xE3069283, Crc("123456789"u8)); // the check value of CRC-32C itself

        static List<byte[]> Records(string path)
        {
            byte[] all = File.ReadAllBytes(path);
            var records = new List<byte[]>();
            for (int at = 0; at < all.Length; )
            {
                int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(all.AsSpan(at));
                Assert.Equal(Masked(all.AsSpan(at, 8)), BinaryPrimitives.ReadUInt32LittleEndian(all.AsSpan(at + 8)));
                Assert.Equal(
                    Masked(all.AsSpan(at + 12, length)),
                    BinaryPrimitives.ReadUInt32LittleEndian(all.AsSpan(at + 12 + length))
                );
                records.Add(all[(at + 12)..(at + 12 + length)]);
                at += 16 + length;
            }
            return records;
        }

        static List<(int Field, ulong Number, byte[] Bytes)> Fields(byte[] message)
        {
            var fields = new List<(int, ulong, byte[])>();
            int at = 0;
            while (at < message.Length)
            {
                ulong tag = Varint();
                int size = (tag & 7) switch
                {
                    1 => 8,
                    5 => 4,
                    2 => (int)Varint(),
                    _ => 0,
                };
                if ((tag & 7) == 0)
                    fields.Add(((int)(tag >> 3), Varint(), []));
                else
                    fields.Add(((int)(tag >> 3), 0, message[at..(at += size)]));
            }
            return fields;

            ulong Varint()
            {
                ulong value = 0;
                for (int shift = 0; ; shift += 7)
                {
                    byte b = message[at++];
                    value |= (ulong)(b & 0x7f) << shift;
                    if (b < 0x80)
                        return value;
                }
            }
        }

        static uint Masked(ReadOnlySpan<byte> data) =>
            Crc(data) is var crc ? ((crc >> 15) | (crc << 17)) + 0xa282ead8 : 0;

        static uint Crc(ReadOnlySpan<byte> data)
        {
            uint crc = ~0u;
            foreach (byte b in data)
            {
                crc ^= b;
                for (int bit = 0; bit < 8; bit++)
                    crc = (crc & 1) == 1 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
            }
            return ~crc;
        }
    }

    [Fact]
    public void Plot_of_a_run_is_a_png_with_its_curves()
    {
        var run = RunFolder.Open(folder, "p");
        var random = new Random(1);
        using (var metrics = new MetricsWriter(run))
            for (int step = 1; step <= 120; step++)
            {
                double learnt = 1 / (1 + Math.Exp((60 - step) / 12.0));
                var row = new Dictionary<string, double>
                {
                    ["reward"] = learnt + 0.1 * random.NextDouble(),
                    ["accuracy"] = learnt * 0.9 + 0.1 * random.NextDouble(),
                    ["completion_length"] = 40 + 30 * learnt + 5 * random.NextDouble(),
                };
                if (step % 20 == 0)
                    row["evaluation_accuracy"] = learnt * 0.85;
                metrics.Write(step, row);
            }
        Plot.Write(run.Path, run.Plot);
        byte[] png = File.ReadAllBytes(run.Plot);
        Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G'], png[..4]);
        Assert.Equal(
            (900, 1000),
            (BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(16)), BinaryPrimitives.ReadInt32BigEndian(png.AsSpan(20)))
        );
        using var image = SkiaSharp.SKBitmap.Decode(png);
        var title = Enumerable.Range(0, 30 * image.Width).Select(i => image.GetPixel(i % image.Width, i / image.Width));
        Assert.True(
            title.Count(p => p.Red < 100) > 50,
            "the title is missing: text needs the font that the project brings"
        );
        if (Environment.GetEnvironmentVariable("SIMPLE_R1_KEEP_PLOT") is { Length: > 0 } keep)
            File.Copy(run.Plot, keep, overwrite: true);
        File.WriteAllText(run.Metrics, "{\"step\":1}\n");
        Assert.Contains(
            "none of reward",
            Assert.Throws<InvalidDataException>(() => Plot.Write(run.Path, run.Plot)).Message
        );
    }

    /// <summary>Reference values of statsmodels' proportion_confint(method="wilson").</summary>
    [Theory]
    [InlineData(0, 10, 0, 0.2775327998628892)]
    [InlineData(10, 10, 0.7224672001371108, 1)]
    [InlineData(350, 500, 0.6584, 0.7385)]
    [InlineData(5, 10, 0.2365930905125640, 0.7634069094874360)]
    public void Wilson_interval_is_the_published_one(int successes, int trials, double low, double high)
    {
        var interval = Statistics.Wilson(successes, trials);
        double tolerance = trials == 500 ? 1e-4 : 1e-12;
        Assert.Equal(low, interval.Low, tolerance);
        Assert.Equal(high, interval.High, tolerance);
        Assert.Equal((double)successes / trials, interval.Estimate);
    }

    [Fact]
    public void Bootstrap_of_a_mean_agrees_with_the_normal_interval_for_many_values()
    {
        var random = new Random(2);
        double[] values = [.. Enumerable.Range(0, 2000).Select(_ => random.NextDouble())];
        var interval = Statistics.BootstrapMean(values);
        double half = 1.96 * Math.Sqrt(1.0 / 12 / values.Length);
        Assert.Equal(interval.Estimate - half, interval.Low, 0.15 * half);
        Assert.Equal(interval.Estimate + half, interval.High, 0.15 * half);
        Assert.Equal(interval, Statistics.BootstrapMean(values));
        Assert.Equal("50.0% [23.7, 76.3]", Statistics.Wilson(5, 10).Percent);
    }

    [Fact]
    public void Peak_memory_grows_with_what_was_held()
    {
        Assert.SkipUnless(File.Exists("/proc/self/status"), "needs Linux's /proc");
        long before = ProcessMemory.Peak(Environment.ProcessId);
        byte[] held = new byte[300 << 20];
        Array.Fill(held, (byte)1);
        Assert.True(ProcessMemory.Peak(Environment.ProcessId) >= 300 << 20);
        Assert.True(ProcessMemory.Peak(Environment.ProcessId) >= before);
        Assert.Equal(0, ProcessMemory.Peak(int.MaxValue));
        GC.KeepAlive(held);
    }

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
