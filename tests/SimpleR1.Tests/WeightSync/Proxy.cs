using System.Net;
using System.Net.Sockets;
using SimpleR1.WeightSync;

namespace SimpleR1.Tests.WeightSync;

/// <summary>
/// A network between the two ends that damages, holds back or cuts what the trainer sends, at given bytes of the
/// stream.
/// </summary>
internal sealed class Proxy : IDisposable
{
    private readonly TcpListener listener = new(IPAddress.Loopback, 0);
    private readonly Socket trainer;
    private Socket? worker;

    public Proxy(WeightInvitation to, long[]? damage = null, long stallAt = long.MaxValue, long closeAt = long.MaxValue)
    {
        listener.Start();
        string[] address = to.Address.Split('/');
        Invitation = to with { Address = $"{listener.LocalEndpoint}/{address[1]}" };
        trainer = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        trainer.Connect(IPEndPoint.Parse(address[0]));
        Run(() =>
        {
            worker = listener.AcceptSocket();
            Run(() => Pump(trainer, worker, damage ?? [], stallAt, closeAt));
            Pump(worker, trainer, [], long.MaxValue, long.MaxValue);
        });
    }

    public WeightInvitation Invitation { get; }
    public int Damaged { get; private set; }
    public ManualResetEventSlim Stalled { get; } = new();

    private static void Run(Action action) =>
        new Thread(() =>
        {
            try
            {
                action();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException) { } // an end has closed
        })
        {
            IsBackground = true,
        }.Start();

    private void Pump(Socket from, Socket to, long[] damage, long stallAt, long closeAt)
    {
        var buffer = new byte[8192];
        long passed = 0;
        for (int read; (read = from.Receive(buffer)) > 0; passed += read)
        {
            foreach (long at in damage)
                if (at >= passed && at < passed + read)
                {
                    buffer[at - passed] ^= 0x10;
                    Damaged++;
                }
            if (passed + read >= stallAt)
            {
                to.Send(buffer.AsSpan(0, (int)(stallAt - passed)));
                Stalled.Set();
                return;
            }
            if (passed + read >= closeAt)
            {
                to.Send(buffer.AsSpan(0, (int)(closeAt - passed)));
                to.Dispose();
                return;
            }
            to.Send(buffer.AsSpan(0, read));
        }
        to.Shutdown(SocketShutdown.Send);
    }

    public void Dispose()
    {
        listener.Dispose();
        trainer.Dispose();
        worker?.Dispose();
    }
}
