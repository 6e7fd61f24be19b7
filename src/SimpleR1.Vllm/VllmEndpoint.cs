using SimpleR1.WeightSync.Security;

namespace SimpleR1.Vllm;

/// <summary>A server that speaks vLLM's API, and what it takes to talk to it.</summary>
/// <param name="Address">http://host:port, or vllm://host:port for the same.</param>
/// <param name="ApiKey">The server's bearer key; null where it wants none.</param>
/// <param name="ClusterKey">
/// Set when the address is the admin port of one of our servers with this key: each connection proves the key at both
/// ends.
/// </param>
public sealed record VllmEndpoint(Uri Address, string? ApiKey = null, ClusterKey? ClusterKey = null)
{
    /// <summary>The address for HTTP.</summary>
    internal Uri Web => Address.Scheme == "vllm" ? new UriBuilder(Address) { Scheme = "http" }.Uri : Address;

    /// <summary>The address in messages to people.</summary>
    internal Uri Shown => ClusterKey is null ? Web : Address;
}
