using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Cluster.Worker;

/// <summary>Devices and element types of workers, by their names on the command line and in recipes.</summary>
public static class WorkerDevices
{
    /// <summary>The single devices of a text.</summary>
    /// <param name="text">
    /// "cpu", "cuda", "cuda:N", several of them with commas, or "all": every GPU of this machine, or its CPU where it has none.
    /// </param>
    /// <exception cref="ArgumentException">The text is none of these, or there is no such GPU.</exception>
    public static IReadOnlyList<string> Expand(string text)
    {
        if (text.Contains(','))
            return [.. text.Split(',', StringSplitOptions.TrimEntries).SelectMany(Expand)];
        if (text == "cpu")
            return ["cpu"];

        int count = CudaDevice.Count;
        if (text == "all")
            return count == 0 ? ["cpu"] : [.. Enumerable.Range(0, count).Select(i => $"cuda:{i}")];
        if (text == "cuda")
            text = "cuda:0";

        if (!text.StartsWith("cuda:", StringComparison.Ordinal) || !int.TryParse(text.AsSpan(5), out int index))
            throw new ArgumentException($"device: expected cpu, cuda, cuda:N or all, found '{text}'");
        if (index < 0 || index >= count)
        {
            string advice = count == 0 ? "; use --device cpu" : $", cuda:0 to cuda:{count - 1}";
            throw new ArgumentException($"device {text}: this machine has {count} CUDA devices{advice}");
        }

        return [text];
    }

    /// <summary>The single GPUs of a text.</summary>
    /// <exception cref="ArgumentException">The text names a device that is no GPU of this machine.</exception>
    public static IReadOnlyList<string> ExpandGpus(string text)
    {
        var names = Expand(text);
        if (names.Contains("cpu"))
        {
            string reason = CudaDevice.Count == 0 ? ", and this machine has none" : "";
            throw new ArgumentException($"device: expected GPUs (cuda, cuda:N, all), found '{text}'{reason}");
        }

        return names;
    }
}
