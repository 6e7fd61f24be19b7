using SimpleR1.Server;
using SimpleR1.Server.Sources;
using SimpleR1.Vllm.Collectives;
using SimpleR1.Vllm.Serving;

namespace SimpleR1.Vllm;

/// <summary>vLLM's weight transfer as an extension of our server.</summary>
public static class VllmWeightUpdates
{
    /// <summary>Endpoints by which a trainer sends weights into the live weights of the server's engine.</summary>
    /// <param name="source">The server's source: an engine of this process.</param>
    /// <param name="options">The server's options: its cluster key and its timeout for weights.</param>
    /// <exception cref="ArgumentException">The engines are in other processes.</exception>
    public static HttpExtension For(ICompletionSource source, HttpOptions options)
    {
        if (source is not LocalCompletions local)
            throw new ArgumentException("weights can be sent to a server with its own engine only");

        var collectives = new TcpCollectives(key: options.ClusterKey);
        var receiver = new WeightReceiver(local, collectives, options.WeightTimeout);

        return new(
            (routes, host) => new WeightEndpoints(receiver, host.Limits, host.Bodies, host.AdminOnly).Map(routes),
            async () =>
            {
                await receiver.DisposeAsync(); // first: a paused engine would never finish its requests
                collectives.Dispose();
            }
        );
    }
}
