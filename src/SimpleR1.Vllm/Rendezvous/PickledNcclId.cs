using System.Text;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>
/// An NCCL id as vLLM's <c>StatelessProcessGroup</c> sends it: its ctypes structure <c>ncclUniqueId</c>, pickled. Only
/// this one object is written and read, byte by byte, because reading any pickle means running its instructions.
/// </summary>
public static class PickledNcclId
{
    /// <summary>Bytes of an id.</summary>
    public const int Length = 128;

    private const string Module = "vllm.distributed.device_communicators.pynccl_wrapper";
    private const string Class = "ncclUniqueId";

    // Protocol 4: _ctypes._unpickle(ncclUniqueId, ({}, the bytes)).
    // Each value is memoized (0x94), as Python's pickler does.
    private static readonly byte[] Before =
    [
        .. ShortText("_ctypes"),
        0x94,
        .. ShortText("_unpickle"),
        0x94,
        0x93,
        0x94,
        .. ShortText(Module),
        0x94,
        .. ShortText(Class),
        0x94,
        0x93,
        0x94,
        (byte)'}',
        0x94,
        (byte)'C',
        Length,
    ];
    private static readonly byte[] After = [0x94, 0x86, 0x94, 0x86, 0x94, (byte)'R', 0x94, (byte)'.'];

    /// <summary>Pickles an id as Python's default protocol since 3.8 does.</summary>
    /// <exception cref="ArgumentException">The id has another length.</exception>
    public static byte[] Write(ReadOnlySpan<byte> id)
    {
        if (id.Length != Length)
            throw new ArgumentException($"an NCCL id has {Length} bytes, found {id.Length}", nameof(id));
        return
        [
            0x80,
            4,
            0x95,
            .. BitConverter.GetBytes((ulong)(Before.Length + Length + After.Length)),
            .. Before,
            .. id,
            .. After,
        ];
    }

    /// <exception cref="InvalidDataException">The pickle is of another object, or of another protocol.</exception>
    public static byte[] Read(ReadOnlySpan<byte> pickle)
    {
        const int Head = 11; // protocol and frame
        bool known =
            pickle.Length == Head + Before.Length + Length + After.Length
            && pickle[0] == 0x80
            && pickle[1] is 4 or 5
            && pickle[Head..].StartsWith(Before)
            && pickle.EndsWith(After);
        if (known)
            return pickle.Slice(Head + Before.Length, Length).ToArray();
        throw new InvalidDataException(
            $"expected a pickled {Module}.{Class} (protocol 4 or 5) under the group's key, "
                + $"found {pickle.Length} other bytes; is rank 0 a vLLM or TRL trainer of this year?"
        );
    }

    private static byte[] ShortText(string text) => [0x8C, (byte)text.Length, .. Encoding.ASCII.GetBytes(text)];
}
