using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace SimpleR1.Server;

/// <summary>
/// A server's certificate with its private key, and the intermediate certificates that clients may need.
/// </summary>
public sealed record TlsCertificate(X509Certificate2 Certificate, X509Certificate2Collection Chain)
{
    /// <summary>Why clients will refuse the certificate today; null if its dates are good.</summary>
    public string? Warning(DateTime now)
    {
        if (now > Certificate.NotAfter)
            return $"the certificate expired on {Certificate.NotAfter:yyyy-MM-dd}; clients will refuse it";
        if (now < Certificate.NotBefore)
            return $"the certificate is valid only from {Certificate.NotBefore:yyyy-MM-dd} on; "
                + "clients will refuse it until then";
        return null;
    }

    /// <summary>
    /// Reads PEM files, as certbot and openssl write them: the server's own certificate first, then those between it
    /// and a root.
    /// </summary>
    /// <param name="keyFile">The private key, not encrypted; null if it is in the certificate's file.</param>
    /// <exception cref="IOException">A file is missing.</exception>
    /// <exception cref="UnauthorizedAccessException">A file may not be read.</exception>
    /// <exception cref="InvalidDataException">
    /// A file holds something else, or the key is not the certificate's.
    /// </exception>
    public static TlsCertificate Load(string certificateFile, string? keyFile)
    {
        string certificates = ReadText("--tls-cert", certificateFile);
        string key = keyFile is null ? certificates : ReadText("--tls-key", keyFile);
        var chain = ReadChain(certificateFile, certificates);

        string source = keyFile is null ? $"--tls-cert: {certificateFile}" : $"--tls-key: {keyFile}";
        if (key.Contains("-----BEGIN ENCRYPTED PRIVATE KEY-----", StringComparison.Ordinal))
            throw new InvalidDataException(
                $"{source} holds an encrypted private key; decrypt it (openssl pkey -in FILE -out KEY.pem) into a file "
                    + "that only the server may read"
            );
        if (!key.Contains("PRIVATE KEY-----", StringComparison.Ordinal))
            throw new InvalidDataException(
                $"{source} holds no private key in PEM{(keyFile is null ? "; name its file with --tls-key" : "")}"
            );
        try
        {
            return new(X509Certificate2.CreateFromPem(chain[0].ExportCertificatePem(), key), [.. chain.Skip(1)]);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException) // not readable, or another's key
        {
            throw new InvalidDataException(
                $"{source}: the private key is not that of the first certificate in {certificateFile}, "
                    + $"or can't be read: {e.Message}",
                e
            );
        }
    }

    private static X509Certificate2Collection ReadChain(string file, string text)
    {
        var chain = new X509Certificate2Collection();
        try
        {
            chain.ImportFromPem(text);
        }
        catch (CryptographicException e)
        {
            throw new InvalidDataException($"--tls-cert: {file} has a certificate that can't be read: {e.Message}", e);
        }
        if (chain.Count == 0)
            throw new InvalidDataException(
                $"--tls-cert: expected a certificate in PEM (-----BEGIN CERTIFICATE-----) in {file}, found none"
            );
        return chain;
    }

    private static string ReadText(string option, string file) =>
        File.Exists(file)
            ? File.ReadAllText(file)
            : throw new FileNotFoundException($"{option}: there is no file {Path.GetFullPath(file)}", file);
}
