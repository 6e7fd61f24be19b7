using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>cublasLtMatmulAlgo_t and what the heuristic says about it (cublasLtMatmulHeuristicResult_t).</summary>
[StructLayout(LayoutKind.Sequential, Size = 96)]
internal unsafe struct ProductChoice
{
    public fixed ulong Algorithm[8];
    public nuint WorkspaceBytes;
    public int State;
    public float Waves;
}

/// <summary>
/// The kernels that were chosen for products, in a file that the processes of a machine share. One measures at a time, and
/// what the first has chosen is every other's choice too: so all compute the same bits, and none disturbs another's
/// measuring.
/// </summary>
/// <param name="file">Lines of a key and the choice's bytes; only appended to.</param>
internal sealed unsafe class ProductChoices(string file)
{
    private static readonly TimeSpan TurnTimeout = TimeSpan.FromSeconds(5); // the one whose turn it is may be suspended
    private static readonly TimeSpan TurnPause = TimeSpan.FromMilliseconds(2);

    private readonly Dictionary<ProductKey, ProductChoice> choices = [];
    private long position; // of the file, up to which it was read
    private bool wasRead;

    /// <summary>The choice; null where this process knows of none yet.</summary>
    public ProductChoice? Find(ProductKey key)
    {
        if (!wasRead)
            ReadNew();
        return choices.TryGetValue(key, out var choice) ? choice : null;
    }

    /// <summary>Takes a choice for this process only.</summary>
    public ProductChoice Use(ProductKey key, ProductChoice choice) => choices[key] = choice;

    /// <summary>The choice of the process that was first, or a new one.</summary>
    public ProductChoice Decide(ProductKey key, Func<ProductChoice> measure)
    {
        using var turn = TakeTurn();
        ReadNew();
        if (choices.TryGetValue(key, out var known))
            return known;
        var choice = measure();
        Append(key, choice);
        return choices[key] = choice;
    }

    /// <summary>Waits until no other process measures; null where that can't be known.</summary>
    private FileStream? TakeTurn()
    {
        long start = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(start) < TurnTimeout)
        {
            try
            {
                Directory.CreateDirectory(Path.GetDirectoryName(file)!);
                return new(file + ".lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException)
            {
                Thread.Sleep(TurnPause);
            }
            catch (UnauthorizedAccessException)
            {
                return null;
            }
        }
        return null;
    }

    private void Append(ProductKey key, ProductChoice choice)
    {
        string bytes = Convert.ToHexString(new ReadOnlySpan<byte>(&choice, sizeof(ProductChoice)));
        try
        {
            File.AppendAllText(file, $"{key.ToLine()} {bytes}\n");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { } // measured again next time
    }

    /// <summary>Takes the lines that were added since the last time; the first of a key counts.</summary>
    private void ReadNew()
    {
        wasRead = true;
        if (!File.Exists(file))
            return;
        using var stream = new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
        stream.Position = Math.Min(position, stream.Length);
        using var reader = new StreamReader(stream, Encoding.ASCII);
        string text = reader.ReadToEnd();
        int whole = text.LastIndexOf('\n') + 1; // a line may be cut off by a crash, or not be written to its end yet
        position += whole;
        foreach (string line in text[..whole].Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            int end = line.LastIndexOf(' ');
            if (end < 0 || line.Length - end - 1 != 2 * sizeof(ProductChoice))
                continue; // cut off by a crash, and continued by another process
            byte[] bytes = Convert.FromHexString(line.AsSpan(end + 1));
            choices.TryAdd(ProductKey.Parse(line[..end]), MemoryMarshal.Read<ProductChoice>(bytes));
        }
    }
}
