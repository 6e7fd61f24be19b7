using System.CommandLine;
using SimpleR1.Inference;

namespace SimpleR1.Commands.Options;

/// <summary>The sizes of an engine; 0 is the engine's own choice.</summary>
internal sealed class EngineSizeOptions(Command command)
{
    private readonly Option<int> kvCache = command
        .AddDefault("--kv-cache-mib", 0)
        .Describe("Memory of the KV cache; 0 is 1,024 on a CPU, and on a GPU what is free");
    private readonly Option<int> sequences = command
        .AddDefault("--max-sequences", 0)
        .Describe("Sequences that run at once; 0 is 64 on a CPU, 1,024 on a GPU");
    private readonly Option<int> batchedTokens = command
        .AddDefault("--max-batched-tokens", 0)
        .Describe("Tokens of one step; 0 is 2,048 on a CPU, 16,384 on a GPU");
    private readonly Option<int> context = command
        .AddDefault("--max-context", 0)
        .Describe("Longest prompt and completion together; 0 is the model's own limit");

    /// <param name="defaults">The sizes where an option is 0.</param>
    public EngineOptions Apply(ParseResult parse, EngineOptions defaults)
    {
        int Size(Option<int> option, int size) => parse.GetValue(option) != 0 ? parse.GetValue(option) : size;
        return defaults with
        {
            KvCacheBytes = (long)parse.GetValue(kvCache) << 20,
            MaxSequences = Size(sequences, defaults.MaxSequences),
            MaxBatchedTokens = Size(batchedTokens, defaults.MaxBatchedTokens),
            MaxContext = parse.GetValue(context),
        };
    }
}
