using System.Net;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Text.Json;
using SimpleR1.WeightSync.Security;

namespace SimpleR1.Vllm;

/// <summary>HTTP with JSON to one server, over TLS that proves the cluster key where there is one.</summary>
/// <param name="timeout">Deadline of each call.</param>
internal sealed class VllmHttp(VllmEndpoint endpoint, TimeSpan timeout) : IDisposable
{
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(10);
    private const int ShownCharacters = 1000; // of an answer that is quoted in an error

    private readonly HttpClient http = Create(endpoint, timeout);

    private static HttpClient Create(VllmEndpoint endpoint, TimeSpan timeout)
    {
        var handler = new SocketsHttpHandler();
        if (endpoint.ClusterKey is { } key)
        {
            handler.UseProxy = false; // a proxy has no key
            handler.ConnectCallback = (context, cancellation) => ConnectAsync(context.DnsEndPoint, key, cancellation);
        }
        var http = new HttpClient(handler) { BaseAddress = endpoint.Web, Timeout = timeout };
        if (endpoint.ApiKey is { } bearer)
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", bearer);
        return http;
    }

    private static async ValueTask<Stream> ConnectAsync(
        DnsEndPoint server,
        ClusterKey key,
        CancellationToken cancellation
    )
    {
        using var deadline = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        deadline.CancelAfter(HandshakeTimeout);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(server, deadline.Token);
            return await key.SecureOpenedAsync(new NetworkStream(socket, ownsSocket: true), deadline.Token);
        }
        catch (Exception e) when (e is AuthenticationException or IOException)
        {
            socket.Dispose();
            throw new IOException(
                "The server did not prove that it has this cluster's key: "
                    + "give both the same --key and name its admin port; http:// instead of vllm:// is for a server without a key",
                e
            );
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            socket.Dispose();
            throw new IOException(
                "The server did not connect and prove that it has the cluster key "
                    + $"in {HandshakeTimeout.TotalSeconds:0} s",
                e
            );
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <exception cref="HttpRequestException">
    /// The server cannot be reached, or its answer is an error or no JSON.
    /// </exception>
    public async Task<JsonElement> GetAsync(string path, CancellationToken cancellation)
    {
        HttpResponseMessage response;
        try
        {
            response = await http.GetAsync(path, cancellation);
        }
        catch (HttpRequestException e) when (endpoint.ClusterKey is null && e.InnerException is not SocketException)
        {
            // The server accepted the connection, but did not answer in HTTP.
            throw new HttpRequestException(
                $"{e.Message} If {endpoint.Shown} is the admin port of a server with a cluster key, "
                    + "give the same --key here",
                e
            );
        }
        using (response)
            return await ReadAsync(path, response, cancellation);
    }

    /// <inheritdoc cref="GetAsync"/>
    public async Task<JsonElement> PostAsync(string path, object? body, CancellationToken cancellation)
    {
        using var content = body is null ? null : JsonContent.Create(body);
        if (content is not null)
            await content.LoadIntoBufferAsync(cancellation); // sets the length, which some servers require
        using var response = await http.PostAsync(path, content, cancellation);
        return await ReadAsync(path, response, cancellation);
    }

    private async Task<JsonElement> ReadAsync(string path, HttpResponseMessage response, CancellationToken cancellation)
    {
        string text = await response.Content.ReadAsStringAsync(cancellation);
        string shown = text[..Math.Min(ShownCharacters, text.Length)];
        if (!response.IsSuccessStatusCode)
            throw new HttpRequestException(
                $"{endpoint.Shown} answers {(int)response.StatusCode} to {path}: {shown}",
                null,
                response.StatusCode
            );
        try
        {
            return JsonSerializer.Deserialize<JsonElement>(text.Length == 0 ? "{}" : text);
        }
        catch (JsonException e)
        {
            throw new HttpRequestException($"{endpoint.Shown} does not answer {path} with JSON: {shown}", e);
        }
    }

    public void Dispose() => http.Dispose();
}
