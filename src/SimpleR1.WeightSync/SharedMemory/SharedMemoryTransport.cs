using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;

namespace SimpleR1.WeightSync.SharedMemory;

/// <summary>
/// Between processes of one machine: the trainer's flat buffer is itself shared memory. A worker copies it into its
/// live buffer and hashes it in the same pass, or converts it into its GPU's memory. The trainer only waits.
/// </summary>
public sealed class SharedMemoryTransport : IWeightTransport
{
    private readonly Lock gate = new();
    private (string Address, nint Memory, long Bytes) mapped; // the trainer's buffer of the last transfer
    private DeviceUpload? upload;

    public string Name => "shared-memory";
    public bool IsCollective => false;
    public bool SendsFromHost => true;

    public bool CanOffer(FlatWeights source) => source.MemoryOwner is SharedWeightMemory;

    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers)
    {
        plan.RequireSource(source);
        if (source.MemoryOwner is not SharedWeightMemory memory)
            throw new InvalidOperationException(
                $"These weights aren't in shared memory; make them with {nameof(SharedWeightMemory)}."
                    + $"{nameof(SharedWeightMemory.Allocate)}, or send them by TCP."
            );
        return new(
            [.. receivers.Select(_ => new WeightInvitation(Name, memory.Address, plan))],
            Task.CompletedTask,
            () => { }
        );
    }

    public bool CanReceive(WeightInvitation invitation)
    {
        if (invitation.Transport != Name)
            return false;
        try
        {
            return PathOf(invitation.Address) is not null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    public ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation = default
    )
    {
        var plan = invitation.Plan;
        plan.RequireSame(destination);
        lock (gate)
        {
            Map(invitation.Address, plan.Length * plan.SourceType.ElementSize());
            if (destination.Device is null && plan.SourceType == plan.ElementType)
                return new(WeightHash.CopyAndHash(mapped.Memory, destination.Pointer, plan.ByteLength));
            Convert(plan, destination);
        }
        return ReceivedWeights.Of(destination);
    }

    private unsafe void Convert(BroadcastPlan plan, FlatWeights destination)
    {
        var from = NumberConversion.Of(plan.SourceType);
        var to = NumberConversion.Of(plan.ElementType);
        if (destination.Device is { } gpu)
        {
            (upload ??= new(gpu)).Write((byte*)mapped.Memory, from, destination.Pointer, to, plan.Length);
            return;
        }

        const long Step = 1 << 20; // elements
        for (long first = 0; first < plan.Length; first += Step)
            NumberConversion.Convert(
                (byte*)mapped.Memory + first * NumberConversion.Size(from),
                from,
                (byte*)destination.Pointer + first * NumberConversion.Size(to),
                to,
                (int)Math.Min(Step, plan.Length - first)
            );
    }

    public void Dispose()
    {
        lock (gate)
        {
            Unmap();
            upload?.Dispose();
            upload = null;
        }
    }

    private void Map(string address, long bytes)
    {
        if (mapped.Address == address)
            return;
        Unmap();
        string path =
            PathOf(address)
            ?? throw new IOException(
                $"The trainer's shared memory {address} can't be found: the trainer has ended, "
                    + "or runs on another machine or in another container (use the tcp transport)."
            );
        using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        long length = RandomAccess.GetLength(file);
        if (length < bytes)
            throw new IOException($"The trainer's shared memory has {length:N0} bytes, expected {bytes:N0}");
        mapped = (address, Libc.Map(file, bytes, writable: false), bytes);
    }

    private void Unmap()
    {
        if (mapped.Memory != 0)
            Libc.Unmap(mapped.Memory, mapped.Bytes);
        mapped = default;
    }

    /// <summary>
    /// The descriptor's path; null where it does not lead to the memory of that name. Process ids are reused, and
    /// differ between containers.
    /// </summary>
    private static string? PathOf(string address)
    {
        string[] parts = address.Split('/');
        string path = $"/proc/{parts[0]}/fd/{parts[1]}";
        return new FileInfo(path).LinkTarget?.Contains(parts[2], StringComparison.Ordinal) == true ? path : null;
    }
}
