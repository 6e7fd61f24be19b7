using System.IO;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

/// <summary>
/// Makes TorchSharp's operators safe from the garbage collector. <c>x * 0.5f</c>, <c>x + y</c> (whose alpha is 1) and
/// the like create a temporary Scalar and hand its native pointer to libtorch without keeping the object alive. A
/// collection at that moment runs the Scalar's finalizer, which frees the number that libtorch is about to read: a
/// crash, an exception about an unknown type, or, worst, another number. So the finalizer of Scalar is made to do
/// nothing; a Scalar that is never disposed then costs its 32 bytes.
/// </summary>
/// <remarks>
/// In IL, <c>ldarg.0, ldc.i4.0, call Scalar.Dispose(bool)</c> at the head of Scalar.Finalize becomes seven nops. The
/// bytes are those of TorchSharp 0.107.0; another version fails the build with a message, so that a person checks it
/// again.
/// </remarks>
public sealed class KeepScalars : Task
{
    private static readonly byte[] Finalizer =
    [
        0x02,
        0x16,
        0x28,
        0x8C,
        0x0E,
        0x00,
        0x06,
        0xDE,
        0x07,
        0x02,
        0x28,
        0x15,
        0x00,
        0x00,
        0x0A,
        0xDC,
        0x2A,
    ];
    private const int Instructions = 7;

    [Required]
    public string Assembly { get; set; } = "";

    public override bool Execute()
    {
        if (!File.Exists(Assembly))
            return true;
        byte[] il = File.ReadAllBytes(Assembly);
        byte[] patched = (byte[])Finalizer.Clone();
        for (int i = 0; i < Instructions; i++)
            patched[i] = 0;
        if (Find(il, patched, 0) >= 0)
            return true;
        int position = Find(il, Finalizer, 0);
        if (position < 0 || Find(il, Finalizer, position + 1) >= 0)
        {
            Log.LogError(
                $"{Assembly}: the finalizer of TorchSharp.Scalar is not that of version 0.107.0; see build/KeepScalars.cs"
            );
            return false;
        }
        patched.CopyTo(il, position);
        string temporary = Assembly + ".kept.tmp";
        File.WriteAllBytes(temporary, il);
        File.Delete(Assembly);
        File.Move(temporary, Assembly);
        return true;
    }

    private static int Find(byte[] bytes, byte[] pattern, int from)
    {
        for (int i = from; i <= bytes.Length - pattern.Length; i++)
        {
            int k = 0;
            while (k < pattern.Length && bytes[i + k] == pattern[k])
                k++;
            if (k == pattern.Length)
                return i;
        }
        return -1;
    }
}
