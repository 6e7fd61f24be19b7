using System.Buffers.Text;
using System.Net.Security;
using System.Numerics;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace SimpleR1.WeightSync.Security;

/// <summary>
/// The one secret of a cluster. Both ends of every connection derive the same private key and certificate from it, and
/// each proves in TLS 1.3's handshake that it has the secret. Connections are encrypted and mutually authenticated,
/// with no certificates to hand out.
/// </summary>
public sealed class ClusterKey
{
    private const string Prefix = "sr1-";
    private const int SecretBytes = 32;
    private const int CheckBytes = 4;
    private const string HostName = "simple-r1-cluster";

    private readonly byte[] publicKey;
    private readonly X509Certificate2 certificate;
    private readonly SslStreamCertificateContext context;

    private ClusterKey(string text, byte[] secret)
    {
        Text = text;
        using var key = PrivateKey(secret);
        var request = new CertificateRequest("CN=" + HostName, key, HashAlgorithmName.SHA256);
        certificate = request.CreateSelfSigned(DateTimeOffset.UnixEpoch, new(2999, 1, 1, 0, 0, 0, TimeSpan.Zero));
        publicKey = certificate.PublicKey.ExportSubjectPublicKeyInfo();
        context = SslStreamCertificateContext.Create(certificate, null, offline: true);
    }

    /// <summary>The key as <see cref="Parse"/> reads it. Every process that has it can join the cluster.</summary>
    public string Text { get; }

    /// <summary>A new random key as text: 256 bits, and a checksum against mistyping.</summary>
    public static string NewText()
    {
        byte[] secret = RandomNumberGenerator.GetBytes(SecretBytes);
        return Prefix + Base64Url.EncodeToString([.. secret, .. Check(secret)]);
    }

    /// <exception cref="ArgumentException">The text is no key, or a mistyped one.</exception>
    public static ClusterKey Parse(string text)
    {
        byte[] bytes = Decode(text);
        bool whole =
            bytes.Length == SecretBytes + CheckBytes
            && CryptographicOperations.FixedTimeEquals(Check(bytes.AsSpan(0, SecretBytes)), bytes.AsSpan(SecretBytes));
        if (whole)
            return new(text, bytes[..SecretBytes]);

        int characters = Base64Url.GetEncodedLength(SecretBytes + CheckBytes);
        throw new ArgumentException(
            "The cluster key is not whole: expected the text that 'simple-r1 key new' printed "
                + $"({Prefix} and {characters} characters)"
        );
    }

    /// <returns>Secret and checksum; empty where the text does not decode.</returns>
    private static byte[] Decode(string text)
    {
        if (!text.StartsWith(Prefix, StringComparison.Ordinal))
            return [];
        try
        {
            return Base64Url.DecodeFromChars(text.AsSpan(Prefix.Length));
        }
        catch (FormatException)
        {
            return [];
        }
    }

    /// <summary>
    /// Refuses a peer that speaks in the clear, before TLS takes its bytes for a record and waits for the rest.
    /// </summary>
    /// <param name="first">The first byte that the peer sent (peeked at); empty where it sent none.</param>
    /// <exception cref="AuthenticationException">The byte does not begin a handshake.</exception>
    public static void RequireTls(ReadOnlySpan<byte> first)
    {
        const byte Handshake = 0x16;
        if (first is [not Handshake, ..])
            throw new AuthenticationException("it does not speak TLS");
    }

    /// <summary>
    /// Encrypts a connection that this end accepted; returns when the other end has proven that it has the key.
    /// </summary>
    /// <exception cref="AuthenticationException">The other end has another key, or none.</exception>
    public SslStream SecureAccepted(Stream plain) => Secured(plain, tls => tls.AuthenticateAsServer(ServerOptions()));

    /// <inheritdoc cref="SecureAccepted"/>
    public Task<SslStream> SecureAcceptedAsync(Stream plain, CancellationToken cancellation) =>
        SecuredAsync(plain, tls => tls.AuthenticateAsServerAsync(ServerOptions(), cancellation));

    /// <summary>
    /// Encrypts a connection that this end opened. An end with another key is refused here; an end that refuses our key
    /// shows at the first read.
    /// </summary>
    /// <exception cref="AuthenticationException">The other end has another key, or none.</exception>
    public SslStream SecureOpened(Stream plain) => Secured(plain, tls => tls.AuthenticateAsClient(ClientOptions()));

    /// <inheritdoc cref="SecureOpened"/>
    public Task<SslStream> SecureOpenedAsync(Stream plain, CancellationToken cancellation) =>
        SecuredAsync(plain, tls => tls.AuthenticateAsClientAsync(ClientOptions(), cancellation));

    private static SslStream Secured(Stream plain, Action<SslStream> handshake)
    {
        var secure = new SslStream(plain, leaveInnerStreamOpen: false);
        try
        {
            handshake(secure);
        }
        catch
        {
            secure.Dispose();
            throw;
        }
        return secure;
    }

    private static async Task<SslStream> SecuredAsync(Stream plain, Func<SslStream, Task> handshake)
    {
        var secure = new SslStream(plain, leaveInnerStreamOpen: false);
        try
        {
            await handshake(secure);
        }
        catch
        {
            await secure.DisposeAsync();
            throw;
        }
        return secure;
    }

    private SslServerAuthenticationOptions ServerOptions() =>
        new()
        {
            ServerCertificateContext = context,
            ClientCertificateRequired = true,
            RemoteCertificateValidationCallback = IsOurs,
            EnabledSslProtocols = SslProtocols.Tls13,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            AllowTlsResume = false, // each connection proves the key anew
            AllowRenegotiation = false,
        };

    private SslClientAuthenticationOptions ClientOptions() =>
        new()
        {
            TargetHost = HostName,
            ClientCertificateContext = context,
            RemoteCertificateValidationCallback = IsOurs,
            EnabledSslProtocols = SslProtocols.Tls13,
            CertificateRevocationCheckMode = X509RevocationMode.NoCheck,
            AllowTlsResume = false,
        };

    /// <summary>
    /// Ignores names, dates and issuers: only the possession of the private key counts, and the handshake proves it.
    /// </summary>
    private bool IsOurs(object sender, X509Certificate? peer, X509Chain? chain, SslPolicyErrors errors) =>
        peer is X509Certificate2 certificate
        && CryptographicOperations.FixedTimeEquals(certificate.PublicKey.ExportSubjectPublicKeyInfo(), publicKey);

    private static byte[] Check(ReadOnlySpan<byte> secret) =>
        SHA256.HashData([.. "simple-r1 key check"u8, .. secret])[..CheckBytes];

    /// <summary>
    /// A private key of P-256 from the secret: 384 bits reduced to a number from 1 to order - 1, as FIPS 186-5 A.2.1
    /// makes keys from random bits.
    /// </summary>
    private static ECDsa PrivateKey(byte[] secret)
    {
        var order = new BigInteger(
            Convert.FromHexString("FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551"),
            isUnsigned: true,
            isBigEndian: true
        );
        byte[] info = "simple-r1 cluster identity 1"u8.ToArray();
        byte[] wide = HKDF.DeriveKey(HashAlgorithmName.SHA256, secret, 48, info: info);
        var number = new BigInteger(wide, isUnsigned: true, isBigEndian: true) % (order - 1) + 1;
        byte[] d = number.ToByteArray(isUnsigned: true, isBigEndian: true);
        return ECDsa.Create(
            new ECParameters { Curve = ECCurve.NamedCurves.nistP256, D = [.. new byte[32 - d.Length], .. d] }
        );
    }
}
