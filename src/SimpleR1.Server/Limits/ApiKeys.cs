using System.Net;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using SimpleR1.Server.Api;

namespace SimpleR1.Server.Limits;

/// <summary>Who may ask: whoever has a key; without keys, this machine.</summary>
internal sealed class ApiKeys(IReadOnlyList<string> keys)
{
    private readonly byte[][] hashes = [.. keys.Select(Hash)];

    /// <exception cref="ApiException">401 without a valid key; 403 where a browser was lured here.</exception>
    public void Check(HttpRequest request)
    {
        if (hashes.Length == 0)
        {
            // A web page whose name points to 127.0.0.1 (DNS rebinding) could otherwise use the model through its visitor's browser.
            string host = request.Host.Host.Trim('[', ']');
            if (host is not ("" or "localhost") && !IPAddress.TryParse(host, out _))
                throw new ApiException(
                    StatusCodes.Status403Forbidden,
                    $"Without an API key this server answers to localhost and IP addresses only, not to '{Shown.Short(host)}'"
                );
            // And a page of another site could send what needs no JSON (a pause, where weights are taken): browsers say where they come from.
            string origin = request.Headers.Origin.ToString();
            if (origin.Length > 0 && !origin.EndsWith("://" + request.Host.Value, StringComparison.OrdinalIgnoreCase))
                throw new ApiException(
                    StatusCodes.Status403Forbidden,
                    $"Without an API key this server answers no pages of other sites ('{Shown.Short(origin)}')"
                );
            return;
        }
        string header = request.Headers.Authorization.ToString();
        const string scheme = "Bearer ";
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

    /// <summary>Takes the same time for every key of a length: hashes are compared whole, and with all keys.</summary>
    private bool Matches(string key)
    {
        byte[] hash = Hash(key);
        bool found = false;
        foreach (byte[] known in hashes)
            found |= CryptographicOperations.FixedTimeEquals(hash, known);
        return found;
    }

    private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
}
