using System.Text;
using Microsoft.AspNetCore.Connections;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>Open connections, bounded. Kestrel's own limit hangs up without a word; this one says why first.</summary>
/// <param name="encrypted">Where TLS is spoken nothing can be said before the handshake: one too many is hung up on.</param>
internal sealed class ConnectionLimit(int limit, bool encrypted = false)
{
    private int open;
    private long refused;

    public int Open => Volatile.Read(ref open);
    public long Refused => Interlocked.Read(ref refused);

    public ConnectionDelegate Around(ConnectionDelegate next) =>
        async connection =>
        {
            try
            {
                if (Interlocked.Increment(ref open) <= limit)
                    await next(connection);
                else
                    await RefuseAsync(connection);
            }
            finally
            {
                Interlocked.Decrement(ref open);
            }
        };

    private async Task RefuseAsync(ConnectionContext connection)
    {
        Interlocked.Increment(ref refused);
        if (encrypted)
        {
            connection.Abort(new ConnectionAbortedException("too many connections"));
            return;
        }
        byte[] body = new ApiException(429, $"This server's limit of {limit} connections is reached; try again").Body();
        string head =
            $"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: {body.Length}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";
        await connection.Transport.Output.WriteAsync((byte[])[.. Encoding.ASCII.GetBytes(head), .. body]);
        await connection.Transport.Output.CompleteAsync();
        await connection.Transport.Input.CompleteAsync();
    }
}
