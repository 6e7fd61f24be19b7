using System.Globalization;
using SimpleR1.Bench;
using SimpleR1.LlamaCpp;
using SimpleR1.Models;
using SimpleR1.Tensors;
using static TorchSharp.torch;

// This project's engine next to llama.cpp, on one machine, in turns: random weights of one shape, in several types.
// Usage: dotnet run -c Release --project benchmarks/SimpleR1.LlamaCpp -- [ROUNDS]
int rounds = args.Length > 0 ? int.Parse(args[0], CultureInfo.InvariantCulture) : 3;
const string Shape = "smollm2-135m";
const int Prompt = 224;
const int Tokens = 32;
const int LongPrompt = 512;

var config = NamedShapes.Get(Shape);
using var f32 = NamedShapes.RandomWeights(config, ScalarType.Float32, null);
string folder = Directory.CreateTempSubdirectory("simple-r1-gguf-").FullName;
try
{
    Console.WriteLine($"{Shape}, {CpuParallel.Threads} threads, tokens/s, median of {rounds}");
    foreach (
        var (type, theirs) in new[]
        {
            (ElementType.F32, GgufType.F32),
            (ElementType.BF16, GgufType.F16),
            (ElementType.BF16, GgufType.Q8),
        }
    )
    {
        using var weights = new FlatWeights(f32.Layout, type.Scalar, CPU);
        weights.Flat.copy_(f32.Flat);
        var engine = new EngineModel(weights);
        string path = Path.Combine(folder, theirs.Name + ".gguf");
        GgufFile.Write(path, f32, theirs);
        using var peer = new LlamaCppModel(path, config.VocabularySize, CpuParallel.Threads);

        Console.WriteLine($"{"", -12} {"ours " + type.Name, 10} {"llama.cpp " + theirs.Name, 16} {"ratio", 6}");
        foreach (int batch in new[] { 1, 8, 32, 64 })
            Compare(
                $"batch {batch}",
                () => engine.Decode(batch, Prompt, Tokens),
                () => peer.Decode(batch, Prompt, Tokens)
            );
        Compare($"prefill {LongPrompt}", () => engine.Prefill(LongPrompt), () => peer.Prefill(LongPrompt));
    }
}
finally
{
    Directory.Delete(folder, recursive: true);
}

void Compare(string name, Func<double> ours, Func<double> theirs)
{
    var measured = Enumerable.Range(0, rounds).Select(_ => (Ours: ours(), Theirs: theirs())).ToArray();
    double our = Median(measured.Select(m => m.Ours));
    double their = Median(measured.Select(m => m.Theirs));
    Console.WriteLine($"{name, -12} {our, 10:F0} {their, 16:F0} {our / their, 6:F2}");
}

static double Median(IEnumerable<double> values) => values.Order().ElementAt(values.Count() / 2);
