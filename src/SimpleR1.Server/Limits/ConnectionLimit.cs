using System.Text;
using Microsoft.AspNetCore.Connections;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>
/// Bounds the open connections. Kestrel's own limit hangs up without a word; this one answers 429 first.
/// </summary>
/// <param name="encrypted">Before a TLS handshake nothing can be answered: hang up on a connection too many.</param>
internal sealed class ConnectionLimit(int limit, bool encrypted = false)
{
    private int open;
    private long refused;

    public int Open => Volatile.Read(ref open);
    public long Refused => Interlocked.Read(ref refused);

    /// <summary>Puts the limit around what serves a connection.</summary>
    public ConnectionDelegate Wrap(ConnectionDelegate next) =>
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
        string head = string.Join(
            "\r\n",
            "HTTP/1.1 429 Too Many Requests",
            "Content-Type: application/json",
            $"Content-Length: {body.Length}",
            "Retry-After: 1",
            "Connection: close",
            "",
            ""
        );
        byte[] answer = [.. Encoding.ASCII.GetBytes(head), .. body];
        await connection.Transport.Output.WriteAsync(answer);
        await connection.Transport.Output.CompleteAsync();
        await connection.Transport.Input.CompleteAsync();
    }
}
