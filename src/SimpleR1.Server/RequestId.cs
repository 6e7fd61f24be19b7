using Microsoft.AspNetCore.Http;

namespace SimpleR1.Server;

/// <summary>The id by which client, proxies and the access log name a request.</summary>
internal static class RequestId
{
    private const string Header = "X-Request-Id";
    private const int Longest = 128;

    /// <summary>Puts the client's id into the answer's headers, or a new one where it sent none that can be repeated.</summary>
    /// <returns>The id.</returns>
    public static string Set(HttpContext context)
    {
        string? sent = context.Request.Headers[Header];
        string id = IsGood(sent) ? sent! : Guid.NewGuid().ToString("N");
        context.Response.OnStarting(() => // an error clears the headers that are set before
        {
            context.Response.Headers[Header] = id;
            return Task.CompletedTask;
        });
        return id;
    }

    /// <summary>Printable ASCII without spaces: it stands in a header and in a line of a log.</summary>
    private static bool IsGood(string? id) =>
        id is { Length: > 0 and <= Longest } && id.All(c => c is > ' ' and < '\x7f');
}
