using System.Reflection;
using System.Runtime.CompilerServices;
using TorchSharp;

namespace SimpleR1.Tensors;

/// <summary>Refuses a TorchSharp without the repairs of this project's build, which would compute wrong numbers at times.</summary>
internal static class RepairedTorchSharp
{
    private const byte Nop = 0;
    private const int RepairedInstructions = 7; // see build/KeepScalars.cs

    /// <summary>Runs when this library is loaded: before the first tensor, whatever the program does.</summary>
    /// <exception cref="InvalidOperationException">TorchSharp is not repaired; the message has the fix.</exception>
#pragma warning disable CA2255 // a check that a caller can forget would be none
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Require() => Require(FinalizerOf(typeof(Scalar)), typeof(Scalar).Assembly.Location);

    /// <param name="finalizer">The IL of the finalizer of TorchSharp's scalars.</param>
    /// <param name="path">TorchSharp's file, for the message.</param>
    internal static void Require(ReadOnlySpan<byte> finalizer, string path)
    {
        bool isRepaired =
            finalizer.Length >= RepairedInstructions && !finalizer[..RepairedInstructions].ContainsAnyExcept(Nop);
        if (!isRepaired)
            throw new InvalidOperationException(
                $"{path} is TorchSharp as it is published: its operators free numbers that libtorch still reads, so that "
                    + "results are wrong at times. The build of SimpleR1 repairs it. Build this program with a reference "
                    + "to the project SimpleR1.Tensors or to its package; to publish it with a project reference, import "
                    + "build/SimpleR1.Tensors.targets of SimpleR1 into its project file"
            );
    }

    private static byte[] FinalizerOf(Type type) =>
        type.GetMethod("Finalize", BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.DeclaredOnly)
            ?.GetMethodBody()
            ?.GetILAsByteArray()
        ?? [];
}
