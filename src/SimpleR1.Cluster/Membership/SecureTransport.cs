using System.IO.Pipelines;
using System.Security.Authentication;
using Microsoft.AspNetCore.Connections;

namespace SimpleR1.Cluster.Membership;

/// <summary>Connection middleware: puts a connection inside TLS with the cluster key at both ends, below its protocol.</summary>
internal static class SecureTransport
{
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10);

    /// <param name="next">Runs with the encrypted transport, once the other end has proven that it has the key.</param>
    /// <param name="secure">This end's part of the handshake.</param>
    /// <param name="refused">Called with the reason where the other end is refused.</param>
    public static async Task RunAsync<T>(
        ConnectionContext context,
        ConnectionDelegate next,
        Func<Stream, CancellationToken, Task<T>> secure,
        Action<string>? refused = null
    )
        where T : Stream
    {
        var plain = context.Transport;
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(context.ConnectionClosed);
        deadline.CancelAfter(HandshakeTimeout);

        // The handshake.
        Stream stream;
        try
        {
            stream = await secure(new DuplexStream(plain.Input.AsStream(), plain.Output.AsStream()), deadline.Token);
        }
        catch (Exception e) when (e is AuthenticationException or IOException or OperationCanceledException)
        {
            bool late = e is OperationCanceledException && !context.ConnectionClosed.IsCancellationRequested;
            refused?.Invoke(late ? $"no handshake in {HandshakeTimeout.TotalSeconds:0} s" : e.Message);
            context.Abort(
                new ConnectionAbortedException("The other end did not prove that it has the cluster key: " + e.Message)
            );
            return;
        }

        // The connection's protocol, inside of it.
        await using (stream)
        {
            try
            {
                context.Transport = new SecurePipe(
                    PipeReader.Create(stream, new(leaveOpen: true)),
                    PipeWriter.Create(stream, new(leaveOpen: true))
                );
                await next(context);
            }
            finally
            {
                context.Transport = plain;
            }
        }
    }

    private sealed record SecurePipe(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    /// <summary>A pipe's two halves as the one stream that TLS needs.</summary>
    private sealed class DuplexStream(Stream input, Stream output) : Stream
    {
        public override bool CanRead => true;
        public override bool CanWrite => true;
        public override bool CanSeek => false;
        public override long Length => throw new NotSupportedException();
        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override int Read(byte[] buffer, int offset, int count) => input.Read(buffer, offset, count);

        public override void Write(byte[] buffer, int offset, int count) => output.Write(buffer, offset, count);

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellation = default) =>
            input.ReadAsync(buffer, cancellation);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellation = default) =>
            output.WriteAsync(buffer, cancellation);

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellation) =>
            input.ReadAsync(buffer, offset, count, cancellation);

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellation) =>
            output.WriteAsync(buffer, offset, count, cancellation);

        public override void Flush() => output.Flush();

        public override Task FlushAsync(CancellationToken cancellation) => output.FlushAsync(cancellation);

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
