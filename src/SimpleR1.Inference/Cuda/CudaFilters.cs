using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Inference.Cuda;

/// <summary>
/// Top-k, top-p and min-p of rows of logits on a GPU, as the smallest logit of each row that is kept: the three kernels
/// of SamplingFilters.cu, and their memory.
/// </summary>
internal sealed class CudaFilters : IDisposable
{
    private const int Threads = 512;

    // SamplingFilters.cu's FilterRow, Bins and MostCandidates.
    private const int RowBytes = 48;
    private const int Bins = 4096;
    private const int MostCandidates = 4096;

    private readonly int vocabulary;
    private readonly DeviceMemory states;
    private readonly DeviceMemory counts;
    private readonly DeviceMemory candidates;
    private readonly DeviceMemory thresholds;
    private readonly Kernel maximum;
    private readonly Kernel histogram;
    private readonly Kernel select;

    public CudaFilters(CudaDevice gpu, int vocabulary, int maxRows)
    {
        this.vocabulary = vocabulary;
        const string purpose = "sampling filters";
        states = gpu.AllocateZeros((long)RowBytes * maxRows, purpose);
        counts = gpu.AllocateZeros(4L * Bins * maxRows, purpose);
        candidates = gpu.Allocate(4L * MostCandidates * maxRows, purpose);
        thresholds = gpu.Allocate(4L * maxRows, purpose);

        const string element = "ELEMENT=float"; // logits are f32; the kernels do not use it
        maximum = gpu.Kernels.Get("SamplingFilters", "filter_maximum", element);
        histogram = gpu.Kernels.Get("SamplingFilters", "filter_histogram", element);
        select = gpu.Kernels.Get("SamplingFilters", "filter_select", element);
    }

    /// <summary>[rows] f32, written by <see cref="Launch"/>: device address.</summary>
    public nint Thresholds => thresholds.Pointer;

    /// <param name="logits">[rows, vocabulary] f32: device address, as the others.</param>
    /// <param name="slots">[rows]: the slot of each row.</param>
    /// <param name="parameters">[slots] of <see cref="CudaSlotParameters"/></param>
    /// <param name="shares">Blocks that work on a row: <see cref="CudaSampler.SharesOf"/>.</param>
    public void Launch(nint logits, nint slots, nint parameters, int rows, int shares)
    {
        var grid = (shares, rows);
        maximum.Launch(grid, Threads, 0, logits, vocabulary, slots, parameters, states);
        histogram.Launch(grid, Threads, 0, logits, vocabulary, slots, parameters, states, counts);
        select.Launch(grid, Threads, 0, logits, vocabulary, slots, parameters, states, candidates, thresholds);
    }

    public void Dispose()
    {
        foreach (var memory in new[] { states, counts, candidates, thresholds })
            memory.Dispose();
    }
}
