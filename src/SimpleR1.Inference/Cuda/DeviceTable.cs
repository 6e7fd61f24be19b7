namespace SimpleR1.Inference.Cuda;

/// <summary>A table of 32-bit numbers on the device with a row for each slot of a running sequence.</summary>
/// <param name="Address">Device address of the first row.</param>
/// <param name="Stride">Numbers of a row.</param>
internal readonly record struct DeviceTable(nint Address, int Stride);
