using System.Net;
using SimpleR1.Models;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.WeightSync.Tcp;

/// <summary>
/// Between machines: a worker opens some connections to the trainer, shows the offer's token on each and asks for its
/// share of the chunks, which are read from the sockets straight into its live buffer. A chunk whose checksum is wrong
/// is requested again. <see cref="TcpWire"/> describes the bytes.
/// </summary>
/// <remarks>
/// With a <see cref="ClusterKey"/> all connections use TLS, and both ends prove that they have the key. Without one
/// nothing is encrypted: the token keeps strangers from fetching, not from listening, so keep it on the loopback
/// interface.
/// </remarks>
public sealed class TcpTransport : IWeightTransport
{
    private static readonly TimeSpan DefaultTimeout = TimeSpan.FromSeconds(60);

    private readonly TcpSender sender;
    private readonly TcpReceiver receiver;

    /// <param name="bind">
    /// The address on which the trainer listens; by default the loopback interface, and a port of the system's choice.
    /// </param>
    /// <param name="timeout">
    /// Longest wait of the trainer for a worker's next request or for room to send; 60 s by default.
    /// </param>
    /// <param name="key">Encrypts and authenticates; both ends must have it, or neither.</param>
    /// <param name="delta">
    /// The trainer keeps the version that it sent last. To workers that hold it, it sends only what has changed since,
    /// where that is less.
    /// </param>
    /// <param name="connections">
    /// Connections by which a worker receives; by default up to four, one for each four of its cores and 32 MiB of
    /// weights.
    /// </param>
    public TcpTransport(
        IPEndPoint? bind = null,
        TimeSpan? timeout = null,
        ClusterKey? key = null,
        bool delta = false,
        int? connections = null
    )
    {
        bind ??= new(IPAddress.Loopback, 0);
        if (bind.Address.Equals(IPAddress.Any) || bind.Address.Equals(IPAddress.IPv6Any))
            throw new ArgumentException(
                $"{bind} names no address that workers could connect to; name the one of the network they are in",
                nameof(bind)
            );
        sender = new(bind, timeout ?? DefaultTimeout, key, delta);
        receiver = new(key, connections);
    }

    public string Name => "tcp";

    public bool IsCollective => false;
    public bool SendsFromHost => true;

    public long SentBytes => sender.SentBytes;

    public bool KeepsProvenBase => true;

    public bool CanOffer(FlatWeights source) => source.Device is null;

    public WeightOffer Offer(FlatWeights source, BroadcastPlan plan, IReadOnlyList<string> receivers)
    {
        var offer = sender.Offer(source, plan);
        return new(
            [.. receivers.Select(_ => new WeightInvitation(Name, offer.Address, plan))],
            Task.CompletedTask,
            () => sender.End(offer)
        );
    }

    public bool CanReceive(WeightInvitation invitation) => invitation.Transport == Name;

    public ReceivedWeights Receive(
        WeightInvitation invitation,
        FlatWeights destination,
        TimeSpan timeout,
        CancellationToken cancellation = default
    ) => receiver.Receive(invitation, destination, timeout, cancellation);

    public void Dispose()
    {
        sender.Dispose();
        receiver.Dispose();
    }
}
