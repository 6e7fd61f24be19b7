using System.Diagnostics;
using System.Numerics.Tensors;
using LLama.Native;

namespace SimpleR1.LlamaCpp;

/// <summary>A GGUF file in llama.cpp, on the CPU.</summary>
internal sealed class LlamaCppModel : IDisposable
{
    private readonly SafeLlamaModelHandle model;
    private readonly int vocabulary;
    private readonly int threads;

    public LlamaCppModel(string path, int vocabulary, int threads)
    {
        NativeLibraryConfig.LLama.WithLogCallback((_, _) => { });
        NativeApi.llama_empty_call(); // loads the library that fits this CPU
        var parameters = LLamaModelParams.Default();
        parameters.n_gpu_layers = 0;
        model = SafeLlamaModelHandle.LoadFromFile(path, parameters);
        this.vocabulary = vocabulary;
        this.threads = threads;
    }

    /// <summary>Tokens per second of decoding, with the most probable token of each sequence.</summary>
    /// <param name="prompt">Tokens that each sequence has before.</param>
    /// <param name="tokens">Tokens that each sequence gets.</param>
    public double Decode(int sequences, int prompt, int tokens)
    {
        using var context = Open(sequences, sequences * (prompt + tokens));
        for (int s = 0; s < sequences; s++)
            Read(context, s, prompt);

        var batch = new LLamaBatch();
        var next = new int[sequences];
        var watch = Stopwatch.StartNew();
        for (int t = 0; t < tokens; t++)
        {
            batch.Clear();
            for (int s = 0; s < sequences; s++)
                batch.Add(next[s], prompt + t, (LLamaSeqId)s, logits: true);
            Require(context.Decode(batch));
            for (int s = 0; s < sequences; s++)
                next[s] = TensorPrimitives.IndexOfMax(context.GetLogitsIth(s)[..vocabulary]);
        }
        return sequences * tokens / watch.Elapsed.TotalSeconds;
    }

    /// <summary>Tokens per second of reading a prompt, up to the logits of its last token.</summary>
    public double Prefill(int prompt)
    {
        using var context = Open(1, prompt);
        var watch = Stopwatch.StartNew();
        Read(context, 0, prompt);
        context.GetLogitsIth(prompt - 1);
        return prompt / watch.Elapsed.TotalSeconds;
    }

    private SafeLLamaContextHandle Open(int sequences, int tokens)
    {
        var parameters = LLamaContextParams.Default();
        parameters.n_ctx = (uint)Math.Max(256, tokens);
        parameters.n_batch = 2048;
        parameters.n_ubatch = 512;
        parameters.n_seq_max = (uint)sequences;
        parameters.n_threads = threads;
        parameters.n_threads_batch = threads;
        return SafeLLamaContextHandle.Create(model, parameters);
    }

    private void Read(SafeLLamaContextHandle context, int sequence, int tokens)
    {
        var random = new Random(sequence);
        var batch = new LLamaBatch();
        for (int i = 0; i < tokens; i++)
            batch.Add(random.Next(vocabulary), i, (LLamaSeqId)sequence, logits: i == tokens - 1);
        Require(context.Decode(batch));
    }

    private static void Require(DecodeResult result)
    {
        if (result != DecodeResult.Ok)
            throw new InvalidOperationException($"llama.cpp: decode gave {result}");
    }

    public void Dispose() => model.Dispose();
}
