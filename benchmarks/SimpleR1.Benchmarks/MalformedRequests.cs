namespace SimpleR1.Benchmarks;

/// <summary>Requests that a server must refuse, or survive.</summary>
internal static class MalformedRequests
{
    /// <summary>The server waits for more of this one; the client must say that there is no more.</summary>
    public const string Incomplete = "\r\n\r\n\r\nx";

    private const string Local = "Host: localhost\r\nConnection: close\r\n\r\n";

    /// <summary>Statuses that answer them; 0 hangs up.</summary>
    public static readonly int[] Expected = [0, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 431, 501, 505];

    public static readonly string[] All =
    [
        // Not HTTP.
        "GET\r\n\r\n",
        Incomplete,
        "GET / HTTP/9.9\r\n\r\n",
        "\u0016\u0003\u0001\u0002\0\u0001\0\u0001",
        // Bad headers, paths and methods.
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /%zz%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /../../etc/passwd HTTP/1.1\r\n" + Local,
        "PATCH /v1/completions HTTP/1.1\r\n" + Local,
        "GET /v1/completions HTTP/1.1\r\n" + Local,
        "GET /health HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n",
        "GET /v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        // Bad lengths and encodings of a body.
        Post("Content-Length: -1", ""),
        Post("Content-Length: 99999999999999999999", ""),
        Post("Content-Length: 3\r\nContent-Length: 4", "abcd"),
        Post("Transfer-Encoding: chunked", "zz\r\n"),
        Post("Transfer-Encoding: chunked", "fffffffffffffffff\r\n"),
        Post("Transfer-Encoding: gzip", "x"),
        // Bad JSON.
        Json(""),
        Json("{"),
        Json("null"),
        Json("[]"),
        Json("\"text\""),
        Json("{}"),
        Json("{\"prompt\":\"\\ud800\"}"),
        Json("{\"prompt\":\"\u00ff\"}"),
        Json("{\"\\ud800\":1}"),
        Json("{\"prompt\":\"a\",\"prompt\":\"b\"}"),
        // Bad values.
        Json("{\"prompt\":1}"),
        Json("{\"prompt\":\"a\",\"n\":\"many\"}"),
        Json("{\"prompt\":\"a\",\"temperature\":1e999}"),
        Json("{\"prompt\":[1,\"a\"]}"),
        Json("{\"prompt\":[99999999999]}"),
        Json("{\"prompt\":\"a\",\"stop\":[\"\"]}"),
        Json("{\"prompt\":\"a\",\"logit_bias\":{\"-1\":1}}"),
        Json("{\"prompt\":\"a\",\"max_tokens\":-1}"),
        Json("{\"prompt\":\"a\",\"logprobs\":1e9}"),
        Json("{\"prompt\":\"a\",\"unknown\":1}"),
        Json("{\"model\":\"other\",\"prompt\":\"a\"}"),
        Json("{\"tokens\":[-1]}").Replace("/v1/completions", "/detokenize", StringComparison.Ordinal),
    ];

    /// <summary>A request with a JSON body.</summary>
    public static string Json(string body) => Post($"Content-Length: {body.Length}", body);

    private static string Post(string header, string body) =>
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        + $"{header}\r\nConnection: close\r\n\r\n{body}";
}
