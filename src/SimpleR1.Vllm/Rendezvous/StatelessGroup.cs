using System.Diagnostics;
using SimpleR1.Vllm.Collectives;

namespace SimpleR1.Vllm.Rendezvous;

/// <summary>
/// The way in which vLLM forms a group without torch.distributed (its <c>StatelessProcessGroup</c>). All processes meet
/// at a TCPStore that rank 0 serves, rank 0 stores the pickled id under <c>broadcast_from/0/0</c>, and all join with
/// it.
/// </summary>
public static class StatelessGroup
{
    private const string IdKey = "broadcast_from/0/0";
    private static readonly TimeSpan Poll = TimeSpan.FromMilliseconds(10);

    /// <summary>Forms the group as rank 0.</summary>
    /// <param name="store">The store that the others connect to.</param>
    /// <exception cref="TimeoutException">Some processes did not join.</exception>
    public static IWeightGroup Lead(TcpStoreServer store, ICollectives collectives, int worldSize, TimeSpan timeout)
    {
        using var client = new TcpStoreClient("127.0.0.1", store.Port, timeout);
        var clock = Stopwatch.StartNew();
        while (client.Joined < worldSize)
        {
            if (clock.Elapsed > timeout)
                throw new TimeoutException(
                    $"waited {timeout.TotalSeconds:0.#} s for {worldSize} processes to join; {client.Joined} did"
                );
            Thread.Sleep(Poll);
        }

        byte[] id = collectives.NewId();
        client.Set(IdKey, PickledNcclId.Write(id));
        return collectives.Join(id, 0, worldSize, timeout);
    }

    /// <summary>Reads the id that rank 0 stores for the others to join with.</summary>
    /// <exception cref="TimeoutException">Nothing listens at the address in time, or rank 0 stores no id.</exception>
    /// <exception cref="IOException">The peer is no TCPStore, or the connection was lost.</exception>
    /// <exception cref="InvalidDataException">The stored value is no id.</exception>
    public static byte[] ReadId(string host, int port, TimeSpan timeout)
    {
        using var client = new TcpStoreClient(host, port, timeout);
        return PickledNcclId.Read(client.Get(IdKey));
    }
}
