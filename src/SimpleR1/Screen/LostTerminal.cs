namespace SimpleR1.Screen;

/// <summary>A terminal that was closed: what is written to it fails, which must not stop a run that saves itself.</summary>
internal static class LostTerminal
{
    /// <summary>Sends nothing to the terminal from here on. What is redirected to a file or a pipe still arrives.</summary>
    public static void Silence()
    {
        if (!Console.IsOutputRedirected)
            Console.SetOut(TextWriter.Null);
        if (!Console.IsErrorRedirected)
            Console.SetError(TextWriter.Null);
    }
}
