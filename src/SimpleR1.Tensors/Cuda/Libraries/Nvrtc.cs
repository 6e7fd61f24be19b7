using System.Runtime.InteropServices;
using System.Text;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>NVIDIA's run-time compiler: CUDA C++ text → machine code for one GPU.</summary>
internal static unsafe partial class Nvrtc
{
    private const string Library = CudaLibraries.Nvrtc;

    /// <summary>The compiler's version, part of a kernel's cache key: another compiler makes other code.</summary>
    public static string Version()
    {
        Check(nvrtcVersion(out int major, out int minor));
        return $"{major}.{minor}";
    }

    /// <param name="name">Named in messages.</param>
    /// <param name="headers">What the source may include, by name.</param>
    /// <exception cref="CudaException">The source doesn't compile; the message has the kernel's name and the
    /// compiler's log.</exception>
    public static byte[] Compile(
        string name,
        string source,
        IReadOnlyDictionary<string, string> headers,
        IReadOnlyList<string> options
    )
    {
        string[] headerNames = [.. headers.Keys],
            headerTexts = [.. headers.Values];
        nint program = 0;
        using var texts = new Utf8Strings([source, name, .. headerTexts, .. headerNames, .. options]);
        var p = texts.Pointers;
        int count = headers.Count;
        Check(nvrtcCreateProgram(out program, p[0], p[1], count, p + 2, p + 2 + count));
        try
        {
            int result = nvrtcCompileProgram(program, options.Count, p + 2 + 2 * count);
            if (result != 0)
                throw new CudaException(
                    $"kernel {name} doesn't compile ({string.Join(' ', options)}):\n{Log(program)}"
                );
            Check(nvrtcGetCUBINSize(program, out nuint size));
            var image = new byte[size];
            fixed (byte* to = image)
                Check(nvrtcGetCUBIN(program, to));
            return image;
        }
        finally
        {
            Check(nvrtcDestroyProgram(ref program));
        }
    }

    private static string Log(nint program)
    {
        Check(nvrtcGetProgramLogSize(program, out nuint size));
        var log = new byte[size];
        fixed (byte* to = log)
            Check(nvrtcGetProgramLog(program, to));
        return Encoding.UTF8.GetString(log).TrimEnd('\0', '\n');
    }

    private static void Check(int result)
    {
        if (result != 0)
            throw new CudaException($"NVRTC: {Marshal.PtrToStringUTF8(nvrtcGetErrorString(result))}");
    }

    /// <summary>Strings as the C interface wants them, alive until this is disposed.</summary>
    private sealed class Utf8Strings : IDisposable
    {
        private readonly int count;

        public Utf8Strings(IReadOnlyList<string> strings)
        {
            count = strings.Count;
            Pointers = (byte**)NativeMemory.Alloc((nuint)count, (nuint)sizeof(byte*));
            for (int i = 0; i < count; i++)
                Pointers[i] = (byte*)Marshal.StringToCoTaskMemUTF8(strings[i]);
        }

        public byte** Pointers { get; }

        public void Dispose()
        {
            for (int i = 0; i < count; i++)
                Marshal.FreeCoTaskMem((nint)Pointers[i]);
            NativeMemory.Free(Pointers);
        }
    }

    [LibraryImport(Library)]
    private static partial int nvrtcVersion(out int major, out int minor);

    [LibraryImport(Library)]
    private static partial nint nvrtcGetErrorString(int result);

    [LibraryImport(Library)]
    private static partial int nvrtcCreateProgram(
        out nint program,
        byte* source,
        byte* name,
        int headers,
        byte** headerTexts,
        byte** headerNames
    );

    [LibraryImport(Library)]
    private static partial int nvrtcCompileProgram(nint program, int count, byte** options);

    [LibraryImport(Library)]
    private static partial int nvrtcGetCUBINSize(nint program, out nuint size);

    [LibraryImport(Library)]
    private static partial int nvrtcGetCUBIN(nint program, byte* image);

    [LibraryImport(Library)]
    private static partial int nvrtcGetProgramLogSize(nint program, out nuint size);

    [LibraryImport(Library)]
    private static partial int nvrtcGetProgramLog(nint program, byte* log);

    [LibraryImport(Library)]
    private static partial int nvrtcDestroyProgram(ref nint program);
}
