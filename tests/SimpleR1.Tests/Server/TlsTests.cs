using System.Net;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using SimpleR1.Server;
using Xunit;

namespace SimpleR1.Tests.Server;

/// <summary>HTTPS by certificates in PEM files, which the tests make.</summary>
public sealed class TlsTests : IDisposable
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-tls").FullName;
    private readonly X509Certificate2 root;
    private readonly ECDsa rootKey = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    public TlsTests()
    {
        var request = new CertificateRequest("CN=test root", rootKey, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        root = request.CreateSelfSigned(DateTimeOffset.Now.AddYears(-2), DateTimeOffset.Now.AddYears(2));
    }

    public void Dispose()
    {
        root.Dispose();
        rootKey.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    private string Write(string name, string text)
    {
        string path = Path.Combine(folder, name);
        File.WriteAllText(path, text);
        return path;
    }

    /// <summary>A certificate of 127.0.0.1 by the root, and its key, as PEM.</summary>
    private (string Certificate, string Key) Make(AsymmetricAlgorithm? key = null, int from = -1, int days = 30)
    {
        using var made = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        key ??= made;
        var request = key is RSA rsa
            ? new CertificateRequest("CN=127.0.0.1", rsa, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            : new CertificateRequest("CN=127.0.0.1", (ECDsa)key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        var start = DateTimeOffset.Now.AddDays(from);
        using var certificate = request.Create(
            root.SubjectName,
            X509SignatureGenerator.CreateForECDsa(rootKey),
            start,
            start.AddDays(days),
            RandomNumberGenerator.GetBytes(8)
        );
        return (certificate.ExportCertificatePem(), key.ExportPkcs8PrivateKeyPem());
    }

    private HttpClient Client(Uri address, SslProtocols protocols = SslProtocols.None)
    {
        var handler = new SocketsHttpHandler();
        handler.SslOptions.EnabledSslProtocols = protocols;
        handler.SslOptions.CertificateChainPolicy = new()
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            CustomTrustStore = { root },
        };
        return new HttpClient(handler) { BaseAddress = address };
    }

    [Theory]
    [InlineData(false, true, SslProtocols.Tls13)]
    [InlineData(false, false, SslProtocols.Tls12)]
    [InlineData(true, true, SslProtocols.None)]
    public async Task Clients_that_trust_the_root_complete_over_HTTPS(bool rsa, bool ownFile, SslProtocols protocols)
    {
        using AsymmetricAlgorithm key = rsa ? RSA.Create(2048) : ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var (certificate, keyText) = Make(key);
        var loaded = ownFile
            ? TlsCertificate.Load(
                Write("cert.pem", certificate + "\n" + root.ExportCertificatePem()),
                Write("key.pem", keyText)
            )
            : TlsCertificate.Load(Write("both.pem", keyText + "\n" + certificate), null);
        Assert.Null(loaded.Warning(DateTime.Now));
        Assert.Equal(ownFile ? 1 : 0, loaded.Chain.Count);
        await using var server = await TestServer.StartAsync(
            new() { Certificate = loaded, ApiKeys = ["tls-test-key"] }
        );
        Assert.Equal("https", server.Server.Address.Scheme);
        using var client = Client(server.Server.Address, protocols);
        client.DefaultRequestHeaders.Authorization = new("Bearer", "tls-test-key");
        using var content = new StringContent("{\"prompt\":\"a\",\"max_tokens\":3}", Encoding.UTF8, "application/json");
        using var response = await client.PostAsync("/v1/completions", content, Token);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        // In the clear there is no answer.
        using var plain = new HttpClient
        {
            BaseAddress = new UriBuilder(server.Server.Address) { Scheme = "http" }.Uri,
        };
        await Assert.ThrowsAsync<HttpRequestException>(() => plain.GetAsync("/health", Token));
        Assert.Equal("ok", (await client.GetAsync("/health", Token)).IsSuccessStatusCode ? "ok" : "not");
    }

    [Fact]
    public async Task Connections_over_the_limit_and_silent_ones_are_hung_up_on()
    {
        var (certificate, key) = Make();
        await using var server = await TestServer.StartAsync(
            new()
            {
                Certificate = TlsCertificate.Load(Write("both.pem", certificate + "\n" + key), null),
                Limits = new() { Connections = 1, HeaderSeconds = 1 },
            }
        );
        using var silent = await server.ConnectAsync();
        using var second = await server.ConnectAsync();
        Assert.Equal("", await TestServer.ReadAsync(second)); // not a 429 in the clear
        Assert.Equal("", await TestServer.ReadAsync(silent)); // after its second for a handshake
        using var client = Client(server.Server.Address);
        await TestServer.UntilAsync(
            async () =>
            {
                try
                {
                    return (await client.GetAsync("/health", Token)).IsSuccessStatusCode;
                }
                catch (HttpRequestException)
                {
                    return false;
                } // the place is not free yet
            },
            () => "an answer after the silent one is gone"
        );
    }

    private static void Refused<T>(string certificateFile, string? keyFile, params string[] says)
        where T : Exception
    {
        string message = Assert.Throws<T>(() => TlsCertificate.Load(certificateFile, keyFile)).Message;
        Assert.All(says, text => Assert.Contains(text, message));
    }

    [Fact]
    public void Certificate_files_that_are_not_what_they_should_be_are_named()
    {
        string key = Write("key.pem", Make().Key),
            nonsense = Write("nonsense.pem", "hello"),
            broken = Write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        Refused<FileNotFoundException>("nowhere.pem", null, "--tls-cert", Path.GetFullPath("nowhere.pem"));
        Refused<InvalidDataException>(nonsense, key, "--tls-cert: expected a certificate in PEM", nonsense);
        Refused<InvalidDataException>(broken, key, "--tls-cert", broken, "can't be read");
    }

    [Fact]
    public void Key_files_that_are_not_what_they_should_be_are_named()
    {
        string good = Write("cert.pem", Make().Certificate),
            other = Write("other.pem", Make().Key),
            nonsense = Write("nonsense.pem", "hello"),
            broken = Write("brokenkey.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        using var ecdsa = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        string locked = Write(
            "locked.pem",
            ecdsa.ExportEncryptedPkcs8PrivateKeyPem(
                "secret",
                new(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000)
            )
        );
        Refused<FileNotFoundException>(good, "nowhere.pem", "--tls-key", Path.GetFullPath("nowhere.pem"));
        Refused<InvalidDataException>(good, null, good, "--tls-key");
        Refused<InvalidDataException>(good, nonsense, nonsense, "no private key");
        Refused<InvalidDataException>(good, broken, broken);
        Refused<InvalidDataException>(good, other, other, "not that of the first certificate");
        Refused<InvalidDataException>(good, locked, locked, "encrypted");
        using var rsa = RSA.Create(2048);
        Refused<InvalidDataException>(good, Write("rsa.pem", rsa.ExportPkcs8PrivateKeyPem()), "rsa.pem");
    }

    [Theory]
    [InlineData(-40, "expired on ")]
    [InlineData(5, "valid only from ")]
    [InlineData(-1, null)]
    public void Dates_that_do_not_hold_are_a_warning_only(int from, string? says)
    {
        var (certificate, key) = Make(from: from);
        string? warning = TlsCertificate.Load(Write("both.pem", certificate + "\n" + key), null).Warning(DateTime.Now);
        if (says is null)
            Assert.Null(warning);
        else
            Assert.Contains(says, warning);
    }
}
