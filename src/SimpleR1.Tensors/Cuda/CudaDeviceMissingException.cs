namespace SimpleR1.Tensors.Cuda;

/// <summary>The requested GPU does not exist, or is too old.</summary>
public sealed class CudaDeviceMissingException(string message) : CudaException(message);
