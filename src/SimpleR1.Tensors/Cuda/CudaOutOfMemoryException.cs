namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// A device allocation did not fit; the message names its purpose, how much was free, and what to change.
/// </summary>
public sealed class CudaOutOfMemoryException(string message) : OutOfMemoryException(message);
