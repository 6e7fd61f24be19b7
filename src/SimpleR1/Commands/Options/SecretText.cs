namespace SimpleR1.Commands.Options;

/// <summary>
/// Secrets that options take. A command line can be read by everyone on the machine, so each of them may be
/// <c>@FILE</c>.
/// </summary>
internal static class SecretText
{
    private const UnixFileMode OthersRead = UnixFileMode.GroupRead | UnixFileMode.OtherRead;

    /// <summary>The secret: the option's text, or what the file holds that it names.</summary>
    /// <param name="option">The option's name, for messages.</param>
    /// <exception cref="IOException">The file can't be read.</exception>
    public static string Read(string option, string text)
    {
        if (text is not ['@', .. var file])
            return text;

        string secret = File.ReadAllText(file).Trim();
        if (!OperatingSystem.IsWindows() && (File.GetUnixFileMode(file) & OthersRead) != 0)
            Console.Error.WriteLine(
                $"warning: {option}: other users of this machine can read {file}; hide it with: chmod 600 {file}"
            );
        return secret;
    }

    /// <summary>Writes a secret to a new file that its owner alone can read.</summary>
    /// <exception cref="IOException">The file exists and may not be replaced, or can't be written.</exception>
    public static void Write(string file, string secret, bool overwrite)
    {
        if (overwrite)
            File.Delete(file); // with its mode
        else if (File.Exists(file))
            throw new IOException($"{file} exists, and may be the key of a cluster: add --overwrite to replace it");

        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        using var writer = new StreamWriter(file, options);
        writer.Write(secret); // no line's end: a Kubernetes secret takes the file as it is
    }
}
