namespace SimpleR1.WeightSync;

/// <summary>
/// How weights travel. <see cref="Auto"/> uses NCCL between GPUs, else shared memory where both ends can, else TCP.
/// </summary>
public enum WeightTransportChoice
{
    Auto,
    SharedMemory,
    Tcp,
    Nccl,
}
