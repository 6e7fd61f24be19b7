using System.Net;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Text;
using SimpleR1.Vllm.Rendezvous;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Vllm.Collectives;

/// <summary>
/// Broadcasts over TCP, for weights in the CPU's memory: rank 0 listens, the others connect to the address in its id.
/// </summary>
/// <param name="address">Rank 0's address for the others; the loopback interface by default.</param>
/// <param name="key">All ranks have it or none: each connection is then TLS in which both ends prove it.</param>
public sealed class TcpCollectives(IPAddress? address = null, ClusterKey? key = null) : ICollectives
{
    private const string Plain = "simple-r1 tcp 1\n";
    private const string Encrypted = "simple-r1 tls 1\n"; // as long as Plain
    private const int TokenBytes = 32;
    internal static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10);

    private readonly Lock gate = new();
    private readonly Dictionary<string, TcpListener> listening = []; // by id
    private readonly CancellationTokenSource disposed = new();

    public string Name => key is null ? "tcp" : "tls";
    private string Kind => key is null ? Plain : Encrypted;

    /// <summary>Whether an id is one of these collectives, with a key or without, rather than NCCL's.</summary>
    public static bool Made(ReadOnlySpan<byte> id) => IsOf(Plain, id) || IsOf(Encrypted, id);

    private static bool IsOf(string kind, ReadOnlySpan<byte> id) => id.StartsWith(Encoding.ASCII.GetBytes(kind));

    /// <summary>An id of the kind, a secret that the others show, and the address on which rank 0 listens.</summary>
    public byte[] NewId()
    {
        var listener = new TcpListener(address ?? IPAddress.Loopback, 0);
        listener.Start();

        byte[] id = new byte[PickledNcclId.Length];
        Encoding.ASCII.GetBytes(Kind, id);
        RandomNumberGenerator.Fill(id.AsSpan(Kind.Length, TokenBytes));
        Encoding.ASCII.GetBytes(listener.LocalEndpoint.ToString()!, id.AsSpan(Kind.Length + TokenBytes));

        lock (gate)
            listening.Add(Convert.ToHexString(id), listener);
        return id;
    }

    public IWeightGroup Join(ReadOnlySpan<byte> id, int rank, int worldSize, TimeSpan timeout)
    {
        if (id.Length != PickledNcclId.Length || !IsOf(Kind, id))
            throw new InvalidDataException(WhyForeign(id));
        if (worldSize < 2 || rank < 0 || rank >= worldSize)
            throw new ArgumentOutOfRangeException(
                nameof(rank),
                rank,
                $"expected a rank from 0 to {worldSize - 1} in a group of at least 2"
            );

        byte[] token = id.Slice(Kind.Length, TokenBytes).ToArray();
        if (rank == 0)
            return LeadAsync(Convert.ToHexString(id), token, worldSize, timeout).GetAwaiter().GetResult();

        string text = Encoding.ASCII.GetString(id[(Kind.Length + TokenBytes)..]).TrimEnd('\0');
        if (!IPEndPoint.TryParse(text, out var endpoint))
            throw new InvalidDataException($"the group's id says that rank 0 is at '{text}', which is no address");
        return FollowAsync(endpoint, token, timeout).GetAwaiter().GetResult();
    }

    private static string WhyForeign(ReadOnlySpan<byte> id)
    {
        if (IsOf(Plain, id))
            return "the group's id is one of processes without a cluster key, and this one has a key: "
                + "give rank 0 the same";
        if (IsOf(Encrypted, id))
            return "the group's id is one of processes with a cluster key, and this one has none: give it the same";
        return "the group's id is one of NCCL, and this process has only TCP to receive weights by: "
            + "its weights are in the CPU's memory. Use a trainer that sends by TCP (SimpleR1's)";
    }

    private async Task<TcpGroup> LeadAsync(string id, byte[] token, int worldSize, TimeSpan timeout)
    {
        TcpListener? listener;
        lock (gate)
            if (!listening.Remove(id, out listener))
                throw new InvalidOperationException("rank 0 must be the process that made the id, and join once");
        using var late = CancellationTokenSource.CreateLinkedTokenSource(disposed.Token);
        late.CancelAfter(timeout);
        var group = new TcpGroup(leads: true, timeout);
        var arrivals = new TcpArrivals(token, key);
        var accepting = arrivals.AcceptAsync(listener, late.Token);
        try
        {
            while (group.Count < worldSize - 1)
                group.Add(await arrivals.NextAsync(late.Token));
            group.AnnounceComplete();
            return group;
        }
        catch (OperationCanceledException)
        {
            group.Dispose();
            ObjectDisposedException.ThrowIf(disposed.IsCancellationRequested, this);
            throw new TimeoutException(
                $"waited {timeout.TotalSeconds:0.#} s for {worldSize - 1} processes to join; {group.Count} did"
                    + (arrivals.Refused == 0 ? "" : $", and {arrivals.Refused} connections were refused that ")
                    + (arrivals.Refused == 0 ? "" : "did not prove that they belong to the group")
            );
        }
        catch
        {
            group.Dispose();
            throw;
        }
        finally
        {
            await late.CancelAsync(); // those that still arrive are too late
            listener.Dispose();
            await accepting;
            arrivals.Close();
        }
    }

    private async Task<TcpGroup> FollowAsync(IPEndPoint endpoint, byte[] token, TimeSpan timeout)
    {
        var socket = new Socket(endpoint.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        var group = new TcpGroup(leads: false, timeout);
        try
        {
            using var deadline = CancellationTokenSource.CreateLinkedTokenSource(disposed.Token);
            deadline.CancelAfter(HandshakeTimeout);
            await socket.ConnectAsync(endpoint, deadline.Token);
            Stream stream = new NetworkStream(socket, ownsSocket: true);
            if (key is not null)
                stream = await key.SecureOpenedAsync(stream, deadline.Token);
            group.Add(new(socket, stream));
            group.Show(token);
            return group;
        }
        catch (Exception e)
        {
            group.Dispose();
            socket.Dispose();
            throw e switch
            {
                SocketException => new IOException($"rank 0 can't be reached at {endpoint}: {e.Message}", e),
                AuthenticationException => new IOException(
                    $"rank 0 at {endpoint} did not prove that it has this cluster's key",
                    e
                ),
                OperationCanceledException when !disposed.IsCancellationRequested => new TimeoutException(
                    $"waited {HandshakeTimeout.TotalSeconds:0} s for a connection to rank 0 at {endpoint}",
                    e
                ),
                _ => e,
            };
        }
    }

    public void Dispose()
    {
        disposed.Cancel(); // ends the waits for groups
        lock (gate)
        {
            foreach (var listener in listening.Values)
                listener.Dispose();
            listening.Clear();
        }
    }
}
