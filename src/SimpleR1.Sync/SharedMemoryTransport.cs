using SimpleR1.Models;

namespace SimpleR1.Sync;

/// <summary>
/// Between processes of one machine: the trainer's flat buffer is itself shared memory, and a worker copies it into its live buffer,
/// hashing on the way. The trainer does nothing but wait.
/// </summary>
public sealed class SharedMemoryTransport : IWeightTransport
{
    private readonly Lock gate = new();
    private (string Address, nint Memory, long Bytes) mapped; // of the last trainer buffer received from

    public string Name => "shared-memory";

    public bool CanOffer(FlatWeights source) => source.MemoryOwner is SharedWeightMemory;

    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan)
    {
        plan.RequireSame(source);
        if (source.MemoryOwner is not SharedWeightMemory memory)
            throw new InvalidOperationException($"These weights aren't in shared memory; make them with {nameof(SharedWeightMemory)}.{nameof(SharedWeightMemory.Allocate)}, or send them by TCP.");
        return new(new(Name, memory.Address, plan));
    }

    public bool CanReceive(WeightInvitation invitation)
    {
        if (invitation.Transport != Name) return false;
        try { return PathOf(invitation.Address) is not null; }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) { return false; }
    }

    public ulong Receive(WeightInvitation invitation, FlatWeights destination, TimeSpan timeout)
    {
        var plan = invitation.Plan;
        plan.RequireSame(destination);
        lock (gate)
        {
            if (mapped.Address != invitation.Address)
            {
                Unmap();
                string path = PathOf(invitation.Address) ?? throw new IOException($"The trainer's shared memory {invitation.Address} can't be found: "
                    + "the trainer has ended, or runs on another machine or in another container (use the tcp transport).");
                using var file = File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
                long length = RandomAccess.GetLength(file);
                if (length < plan.ByteLength) throw new IOException($"The trainer's shared memory has {length:N0} bytes, expected {plan.ByteLength:N0}");
                mapped = (invitation.Address, Libc.Map(file, plan.ByteLength, writable: false), plan.ByteLength);
            }
            return WeightHash.CopyAndHash(mapped.Memory, destination.Pointer, plan.ByteLength);
        }
    }

    public void Dispose()
    {
        lock (gate) Unmap();
    }

    private void Unmap()
    {
        if (mapped.Memory != 0) Libc.Unmap(mapped.Memory, mapped.Bytes);
        mapped = default;
    }

    /// <summary>The descriptor's path, where it leads to the memory of that name: process ids are reused, and differ between containers.</summary>
    private static string? PathOf(string address)
    {
        string[] parts = address.Split('/');
        string path = $"/proc/{parts[0]}/fd/{parts[1]}";
        return new FileInfo(path).LinkTarget?.Contains(parts[2], StringComparison.Ordinal) == true ? path : null;
    }
}
