using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;

namespace SimpleR1.Bench.Training;

/// <summary>
/// The training benchmark's step in PyTorch with transformers, by a Python that has them: a process for each variant,
/// so that each finds the GPU's memory empty. The script is a resource of this program.
/// </summary>
internal sealed class TransformersPeer(ModelConfig config, TrainBenchmarkOptions options)
{
    /// <summary>All that can be measured.</summary>
    public static IReadOnlyList<string> Variants { get; } = ["eager", "compile"];

    private const string Script = "transformers_train.py";
    private const int TailLines = 12; // of errors
    private static readonly TimeSpan OutputTimeout = TimeSpan.FromSeconds(5);

    /// <summary>A program of the path, or a path.</summary>
    public string Python { get; init; } = "python3";

    /// <summary>The time for one variant, compilation included.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(300);

    /// <summary>Measures a variant. The GPU's memory must be free.</summary>
    /// <exception cref="IOException">Python, PyTorch or transformers is missing or fails; the message has its
    /// errors.</exception>
    /// <exception cref="TimeoutException">It takes longer than <see cref="Timeout"/>.</exception>
    /// <exception cref="InvalidDataException">It prints no figures.</exception>
    public async Task<PeerFigures> MeasureAsync(string variant)
    {
        string folder = Directory.CreateTempSubdirectory("simple-r1-peer-").FullName;
        try
        {
            WriteFiles(folder);
            using var process = Start(folder, variant);
            return PeerFigures.Parse(await OutputAsync(process, variant));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The script, and a config of the same shape.</summary>
    private void WriteFiles(string folder)
    {
        var weightType = Enum.Parse<WeightType>(options.Type.SafetensorsName);
        File.WriteAllText(Path.Combine(folder, "config.json"), ModelConfigFile.ToJson(config, weightType));
        using var resource = typeof(TransformersPeer).Assembly.GetManifestResourceStream(Script)!;
        using var file = File.Create(Path.Combine(folder, Script));
        resource.CopyTo(file);
    }

    private Process Start(string folder, string variant)
    {
        var start = new ProcessStartInfo(Python, Arguments(folder, variant))
        {
            RedirectStandardInput = true, // its end ends the child, when this process dies
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["HF_HUB_OFFLINE"] = "1"; // it needs nothing from the network
        try
        {
            return Process.Start(start)!;
        }
        catch (Win32Exception e)
        {
            throw new IOException(
                $"can't start {Python} ({e.Message}): install Python 3 with 'pip install torch transformers', or name "
                    + "one that has them by --python",
                e
            );
        }
    }

    private string[] Arguments(string folder, string variant)
    {
        string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
        return
        [
            Path.Combine(folder, Script),
            folder,
            "--end-with-input",
            "--variant",
            variant,
            "--sequences",
            Text(options.Sequences),
            "--length",
            Text(options.Length),
            "--prompt",
            Text(options.Prompt),
            "--micro-batch",
            Text(Math.Max(1, options.TokensPerMicroBatch / options.Length)),
            "--warm-up",
            Text(TrainBenchmark.WarmUpSteps),
            "--repeats",
            Text(options.Repeats),
            "--device",
            $"cuda:{options.Gpu}",
            .. options.Checkpointing ? ["--checkpointing"] : Array.Empty<string>(),
        ];
    }

    /// <returns>What the process writes to standard output.</returns>
    private async Task<string> OutputAsync(Process process, string variant)
    {
        var output = process.StandardOutput.ReadToEndAsync();
        var errors = process.StandardError.ReadToEndAsync();
        using var deadline = new CancellationTokenSource(Timeout);
        try
        {
            await process.WaitForExitAsync(deadline.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true); // torch.compile has processes of its own
            throw new TimeoutException(
                $"{variant} has no figures after {Timeout.TotalSeconds:0} s (--peer-timeout): ended"
            );
        }

        // A grandchild may hold the output open.
        string tail = Tail(await errors.WaitAsync(OutputTimeout));
        return process.ExitCode == 0
            ? await output.WaitAsync(OutputTimeout)
            : throw new IOException($"{Python} ended with exit code {process.ExitCode}:\n{tail}");
    }

    /// <summary>The last lines, where Python's tracebacks have their reason.</summary>
    private static string Tail(string errors) =>
        string.Join('\n', errors.Split('\n', StringSplitOptions.RemoveEmptyEntries).TakeLast(TailLines));
}
