using System.Runtime.InteropServices;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// How a slot's sequence is sampled, as kernels read it: struct Parameters of Kernels/SlotParameters.cuh.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct CudaSlotParameters
{
    /// <summary>Size in 32-bit numbers.</summary>
    public const int Length = 12;

    public ulong Seed;
    public float Scale;
    public int Greedy;
    public int TopK;
    public float TopP;
    public float MinP;
    public float Repetition;
    public float Presence;
    public float Frequency;
    public int PromptLength;
    public int Reserved;

    /// <param name="seed">Of the sample's stream.</param>
    public static CudaSlotParameters Of(SamplingParameters s, ulong seed, int promptLength)
    {
        bool greedy = s.Temperature == 0;
        return new()
        {
            Seed = seed,
            Scale = greedy ? 1 : (float)(1 / s.Temperature),
            Greedy = greedy ? 1 : 0,
            TopK = s.TopK,
            TopP = (float)s.TopP,
            MinP = (float)s.MinP,
            Repetition = (float)s.RepetitionPenalty,
            Presence = (float)s.PresencePenalty,
            Frequency = (float)s.FrequencyPenalty,
            PromptLength = promptLength,
        };
    }
}
