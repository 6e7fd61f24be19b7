using SimpleR1.Tensors.Cuda;
using static TorchSharp.torch;

namespace SimpleR1.Models;

/// <summary>
/// cos and sin of position × frequency, computed in doubles (Su et al. 2021, "RoFormer"); with Llama 3's scaling after
/// its reference implementation.
/// </summary>
internal sealed class RotaryTables : IDisposable
{
    private readonly DeviceMemory? memory;

    /// <param name="gpu">The GPU that will read the tables; null for the CPU.</param>
    public RotaryTables(ModelConfig config, CudaDevice? gpu)
    {
        int half = config.HeadDimension / 2;
        var cosine = new float[(long)config.MaxPositions * half];
        var sine = new float[cosine.Length];
        Fill(config, cosine, sine);

        long[] shape = [config.MaxPositions, half];
        if (gpu is null)
        {
            Cosine = tensor(cosine, shape).DetachFromDisposeScope();
            Sine = tensor(sine, shape).DetachFromDisposeScope();
            return;
        }

        long bytes = (long)cosine.Length * sizeof(float);
        memory = gpu.Allocate(2 * bytes, "rotary tables");
        gpu.Write<float>(memory.Pointer, cosine);
        gpu.Write<float>(memory.Pointer + (nint)bytes, sine);
        Cosine = memory.Tensor(shape, float32).DetachFromDisposeScope();
        Sine = memory.Tensor(shape, float32, bytes).DetachFromDisposeScope();
    }

    /// <summary>[positions, headDimension / 2] f32</summary>
    public Tensor Cosine { get; }

    /// <summary>[positions, headDimension / 2] f32</summary>
    public Tensor Sine { get; }

    private static void Fill(ModelConfig config, float[] cosine, float[] sine)
    {
        int half = config.HeadDimension / 2;
        for (int i = 0; i < half; i++)
        {
            double frequency = Math.Pow(config.RopeTheta, -2.0 * i / config.HeadDimension);
            if (config.RopeScaling is { } scaling)
                frequency = Scale(frequency, scaling);
            for (int position = 0; position < config.MaxPositions; position++)
            {
                var (sin, cos) = Math.SinCos(position * frequency);
                sine[position * half + i] = (float)sin;
                cosine[position * half + i] = (float)cos;
            }
        }
    }

    private static double Scale(double frequency, Llama3RopeScaling s)
    {
        double wavelength = 2 * Math.PI / frequency;
        if (wavelength < s.OriginalMaxPositions / s.HighFrequencyFactor)
            return frequency;
        if (wavelength > s.OriginalMaxPositions / s.LowFrequencyFactor)
            return frequency / s.Factor;

        double position = s.OriginalMaxPositions / wavelength - s.LowFrequencyFactor;
        double smooth = position / (s.HighFrequencyFactor - s.LowFrequencyFactor);
        return (1 - smooth) * frequency / s.Factor + smooth * frequency;
    }

    public void Dispose()
    {
        Cosine.Dispose();
        Sine.Dispose();
        memory?.Dispose();
    }
}
