using static SimpleR1.Tensors.Cuda.Libraries.CudaDriver;

namespace SimpleR1.Tensors.Cuda;

/// <summary>A compiled CUDA function. The texts are in Kernels/*/*.cu.</summary>
public sealed unsafe class Kernel
{
    private readonly CudaDevice device;
    private readonly nint function;
    private readonly string name;
    private int sharedLimit = 48 << 10;

    internal Kernel(CudaDevice device, nint function, string name)
    {
        this.device = device;
        this.function = function;
        this.name = name;
    }

    /// <summary>
    /// Launches the kernel after what was launched before. It may start early: every kernel waits for the one before
    /// it by itself (see Prelude.cuh).
    /// </summary>
    /// <param name="shared">Dynamic shared memory, in bytes.</param>
    public void Launch((int X, int Y) grid, int threads, int shared, params ReadOnlySpan<KernelArgument> arguments)
    {
        if (grid.X == 0 || grid.Y == 0)
            return;
        device.Use();
        AllowShared(shared);
        void** parameters = stackalloc void*[arguments.Length];
        fixed (KernelArgument* values = arguments)
        {
            for (int i = 0; i < arguments.Length; i++)
                parameters[i] = values + i;
            var early = new LaunchAttribute { Id = ProgrammaticSerialization, Value = 1 };
            var config = new LaunchConfig
            {
                GridX = (uint)grid.X,
                GridY = (uint)grid.Y,
                GridZ = 1,
                BlockX = (uint)threads,
                BlockY = 1,
                BlockZ = 1,
                SharedBytes = (uint)shared,
                Stream = device.Stream,
                Attributes = &early,
                AttributeCount = device.EarlyLaunch && device.Profile is null ? 1u : 0,
            };
            if (device.Profile is null)
                Launch((nint)(&config), (nint)parameters);
            else
                LaunchProfiled(device.Profile, (nint)(&config), (nint)parameters);
        }
    }

    private void LaunchProfiled(KernelProfile profile, nint config, nint parameters) =>
        profile.Measure(name, () => Launch(config, parameters));

    private void Launch(nint config, nint parameters)
    {
        int result = cuLaunchKernelEx((LaunchConfig*)config, function, (void**)parameters, null);
        if (result == 0)
            return;
        var c = (LaunchConfig*)config;
        Check(
            result,
            $"launch of {name}, grid {c->GridX} × {c->GridY}, {c->BlockX} threads, {c->SharedBytes} bytes of shared memory("
        );
    }

    /// <summary>Blocks that one multiprocessor runs at a time.</summary>
    public int BlocksPerMultiprocessor(int threads, int shared)
    {
        device.Use();
        AllowShared(shared);
        Check(cuOccupancyMaxActiveBlocksPerMultiprocessor(out int blocks, function, threads, (nuint)shared));
        return Math.Max(1, blocks);
    }

    private void AllowShared(int shared)
    {
        if (shared <= sharedLimit)
            return;
        if (shared > device.SharedMemoryPerBlock)
            throw new NotSupportedException(
                $"kernel {name} needs {shared:N0} bytes of shared memory a block, "
                    + $"{device.Name} has {device.SharedMemoryPerBlock:N0}"
            );
        Check(cuFuncSetAttribute(function, MaxDynamicSharedSize, shared));
        sharedLimit = shared;
    }
}
