namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// A call to one of NVIDIA's libraries failed; the message names the call and has the library's own words.
/// </summary>
public class CudaException(string message) : InvalidOperationException(message);

/// <summary>The requested GPU does not exist, or is too old.</summary>
public sealed class CudaDeviceMissingException(string message) : CudaException(message);

/// <summary>
/// A device allocation did not fit; the message names its purpose, how much was free, and what to change.
/// </summary>
public sealed class CudaOutOfMemoryException(string message) : OutOfMemoryException(message);
