namespace SimpleR1.Tensors.Cuda;

/// <summary>
/// A call to one of NVIDIA's libraries failed; the message names the call and has the library's own words.
/// </summary>
public class CudaException(string message) : InvalidOperationException(message);
