using System.Globalization;
using System.Reflection;
using System.Runtime.Loader;
using System.Text;
using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.Text;

namespace SimpleR1.Training.Rewards;

/// <summary>A reward file does not compile, or does not hold the method asked for.</summary>
public sealed class RewardCompilationException(string message) : Exception(message);

/// <summary>
/// Custom rewards: one C# file with public static methods in a public static class. A method's signature says which
/// form of reward it is. The file may use everything the program itself can; the SDK's usual namespaces and SimpleR1's
/// are imported.
/// </summary>
public sealed class RewardFile
{
    private const string Usings = """
        global using System;
        global using System.Collections.Generic;
        global using System.IO;
        global using System.Linq;
        global using System.Text;
        global using System.Text.Json;
        global using System.Text.Json.Nodes;
        global using System.Text.RegularExpressions;
        global using System.Threading;
        global using System.Threading.Tasks;
        global using SimpleR1.Inference;
        global using SimpleR1.Training;
        global using SimpleR1.Training.Data;
        global using SimpleR1.Training.Rewards;
        """;

    private readonly string path;
    private readonly IReadOnlyDictionary<string, RewardFunction> rewards;

    private RewardFile(string path, IReadOnlyDictionary<string, RewardFunction> rewards)
    {
        this.path = path;
        this.rewards = rewards;
    }

    /// <summary>Names of the rewards in the file.</summary>
    public IEnumerable<string> Names => rewards.Keys;

    /// <exception cref="RewardCompilationException">The file has no such reward.</exception>
    public RewardFunction ByName(string name) =>
        rewards.TryGetValue(name, out var reward)
            ? reward
            : throw new RewardCompilationException(
                $"{path}: no reward '{name}'; found {(rewards.Count == 0 ? "none" : string.Join(", ", rewards.Keys))}. "
                    + $"A reward is a public static method in one of these forms: {string.Join("; ", Forms(name))}"
            );

    /// <summary>Compiles a file in memory.</summary>
    /// <exception cref="RewardCompilationException">
    /// The file does not compile; the message has every error with file and line.
    /// </exception>
    public static RewardFile Compile(string path)
    {
        if (!File.Exists(path))
            throw new FileNotFoundException($"reward file not found: {Path.GetFullPath(path)}", path);

        // Parse and compile, with the usual namespaces imported
        var options = CSharpParseOptions.Default.WithLanguageVersion(LanguageVersion.Latest);
        SyntaxTree[] trees =
        [
            CSharpSyntaxTree.ParseText(Usings, options),
            CSharpSyntaxTree.ParseText(SourceText.From(File.ReadAllText(path), Encoding.UTF8), options, path),
        ];
        var compilation = CSharpCompilation.Create(
            "Rewards_" + Guid.NewGuid().ToString("N"),
            trees,
            References(),
            new CSharpCompilationOptions(
                OutputKind.DynamicallyLinkedLibrary,
                optimizationLevel: OptimizationLevel.Release,
                allowUnsafe: true,
                nullableContextOptions: NullableContextOptions.Enable
            )
        );
        using var image = new MemoryStream();
        using var symbols = new MemoryStream(); // give a reward's stack trace its line numbers
        var result = compilation.Emit(image, symbols);
        var errors = result.Diagnostics.Where(d => d.Severity == DiagnosticSeverity.Error).ToList();
        if (errors.Count > 0)
            throw new RewardCompilationException(
                $"{path} does not compile:\n" + string.Join("\n", errors.Take(20).Select(Line))
            );

        // Load, and find the rewards
        image.Position = 0;
        symbols.Position = 0;
        var assembly = AssemblyLoadContext.GetLoadContext(typeof(RewardFile).Assembly)!.LoadFromStream(image, symbols);
        return new(path, Find(assembly, path));
    }

    private static string[] Forms(string name) =>
        [
            $"double {name}(RewardInput input)",
            $"ValueTask<double> {name}(RewardInput input, CancellationToken stop)",
            $"IReadOnlyList<double> {name}(IReadOnlyList<RewardInput> group)",
            $"ValueTask<IReadOnlyList<double>> {name}(IReadOnlyList<RewardInput> group, CancellationToken stop)",
        ];

    private static Dictionary<string, RewardFunction> Find(Assembly assembly, string path)
    {
        var found = new Dictionary<string, RewardFunction>();
        var methods = assembly
            .GetExportedTypes()
            .SelectMany(t => t.GetMethods(BindingFlags.Public | BindingFlags.Static | BindingFlags.DeclaredOnly));
        foreach (var method in methods)
        {
            if (Form(method) is { } reward && !found.TryAdd(method.Name, reward))
                throw new RewardCompilationException($"{path}: two rewards are called '{method.Name}'; rename one");
        }
        return found;
    }

    /// <summary>The method as a reward of the form that its signature says; null for any other method.</summary>
    private static RewardFunction? Form(MethodInfo method)
    {
        if (Is<Reward>(method))
            return RewardFunction.Plain(method.CreateDelegate<Reward>());
        if (Is<AsyncReward>(method))
            return RewardFunction.Async(method.CreateDelegate<AsyncReward>());
        if (Is<GroupReward>(method))
            return RewardFunction.Group(method.CreateDelegate<GroupReward>());
        if (!Is<Func<IReadOnlyList<RewardInput>, IReadOnlyList<double>>>(method))
            return null;
        var group = method.CreateDelegate<Func<IReadOnlyList<RewardInput>, IReadOnlyList<double>>>();
        return RewardFunction.Group((inputs, _) => new(group(inputs)), overlaps: false);
    }

    /// <summary>True when a delegate can call a method: the same parameters, and a result that it may return.</summary>
    private static bool Is<TDelegate>(MethodInfo method)
    {
        var form = typeof(TDelegate).GetMethod("Invoke")!;
        return !method.ContainsGenericParameters
            && method
                .GetParameters()
                .Select(p => p.ParameterType)
                .SequenceEqual(form.GetParameters().Select(p => p.ParameterType))
            && form.ReturnType.IsAssignableFrom(method.ReturnType)
            && form.ReturnType.IsValueType == method.ReturnType.IsValueType;
    }

    private static string Line(Diagnostic error)
    {
        var span = error.Location.GetMappedLineSpan();
        string message = error.GetMessage(CultureInfo.InvariantCulture);
        return $"  {span.Path}:{span.StartLinePosition.Line + 1}: {error.Id} {message}";
    }

    /// <summary>All assemblies of the program, SimpleR1's included: the runtime has their list.</summary>
    private static IEnumerable<MetadataReference> References() =>
        ((string?)AppContext.GetData("TRUSTED_PLATFORM_ASSEMBLIES") ?? "")
            .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
            .Append(typeof(RewardFile).Assembly.Location)
            .Where(File.Exists)
            .DistinctBy(Path.GetFileName)
            .Select(file => MetadataReference.CreateFromFile(file));
}
