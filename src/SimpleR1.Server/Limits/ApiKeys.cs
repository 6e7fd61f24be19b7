using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>Checks who sends a request: with keys, clients that have one; without keys, this machine only.</summary>
internal sealed class ApiKeys(IReadOnlyList<string> keys)
{
    private readonly byte[][] hashes = [.. keys.Select(Hash)];

    /// <exception cref="ApiException">
    /// The request has no valid key (401), or a browser was lured here (403).
    /// </exception>
    public void Check(HttpRequest request)
    {
        if (hashes.Length == 0)
            CheckOrigin(request);
        else
            CheckKey(request);
    }

    private static void CheckOrigin(HttpRequest request)
    {
        // A web page whose name points to 127.0.0.1 (DNS rebinding) could otherwise use the model through its
        // visitor's browser.
        string host = request.Host.Host.Trim('[', ']');
        if (host is not ("" or "localhost") && !IPAddress.TryParse(host, out _))
            throw new ApiException(
                StatusCodes.Status403Forbidden,
                "Without an API key this server answers to localhost and IP addresses only, "
                    + $"not to '{Shown.Short(host)}'"
            );

        // A page of another site could send a request that needs no JSON, such as a pause for a weight update.
        // Browsers name the site.
        string origin = request.Headers.Origin.ToString();
        if (origin.Length > 0 && !origin.EndsWith("://" + request.Host.Value, StringComparison.OrdinalIgnoreCase))
            throw new ApiException(
                StatusCodes.Status403Forbidden,
                $"Without an API key this server answers no pages of other sites ('{Shown.Short(origin)}')"
            );
    }

    private void CheckKey(HttpRequest request)
    {
        const string scheme = "Bearer ";
        string header = request.Headers.Authorization.ToString();
        if (!header.StartsWith(scheme, StringComparison.OrdinalIgnoreCase))
            throw new ApiException(
                StatusCodes.Status401Unauthorized,
                "Expected the header 'Authorization: Bearer KEY' with this server's key",
                code: "invalid_api_key"
            );
        if (!Matches(header[scheme.Length..].Trim()))
            throw new ApiException(
                StatusCodes.Status401Unauthorized,
                "The API key is not one of this server's",
                code: "invalid_api_key"
            );
    }

    /// <summary>
    /// Takes the same time for every key of a length: whole hashes are compared, with those of all keys.
    /// </summary>
    private bool Matches(string key)
    {
        byte[] hash = Hash(key);
        bool matches = false;
        foreach (byte[] valid in hashes)
            matches |= CryptographicOperations.FixedTimeEquals(hash, valid);
        return matches;
    }

    private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
}
