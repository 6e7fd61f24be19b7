using System.Net.Sockets;

namespace SimpleR1.WeightSync.Security;

/// <summary>
/// Accepts a port's connections until the port is disposed, whatever else fails: connections that were aborted in the
/// queue, or a process that is out of descriptors for a while.
/// </summary>
/// <param name="port">What the port is for, for the log: "the head's port".</param>
/// <param name="log">Takes a line at most each second about what failed.</param>
public sealed class AcceptLoop(string port, Action<string> log)
{
    /// <summary>The failed call would fail again at once, and turn the loop into one that burns a core.</summary>
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);

    private readonly ThrottledLog failures = new(log);

    /// <summary>Runs until <paramref name="stop"/> is cancelled or the listener disposed; throws nothing.</summary>
    /// <param name="accept">Waits for a connection: <see cref="TcpListener.AcceptSocketAsync(CancellationToken)"/>.</param>
    /// <param name="accepted">Takes each connection, and returns at once.</param>
    public async Task RunAsync(
        Func<CancellationToken, ValueTask<Socket>> accept,
        Action<Socket> accepted,
        CancellationToken stop
    )
    {
        while (!stop.IsCancellationRequested)
            try
            {
                accepted(await accept(stop));
            }
            catch (Exception) when (stop.IsCancellationRequested)
            {
                return;
            }
            catch (InvalidOperationException)
            {
                return; // disposed
            }
            catch (SocketException e) when (IsOfOneConnection(e))
            {
                // The other end has gone already. Strangers could slow the port down by this if it paused here.
            }
            catch (Exception e)
            {
                failures.Add($"{port} can't accept a connection now, and tries again: {e.Message}");
                await Task.Delay(Pause, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
    }

    private static bool IsOfOneConnection(SocketException e) =>
        e.SocketErrorCode is SocketError.ConnectionAborted or SocketError.ConnectionReset or SocketError.NotConnected;
}
