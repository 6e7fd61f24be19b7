using System.Diagnostics;

namespace SimpleR1.Screen;

/// <summary>
/// Standard output: lines that stay, and on a terminal a last line that changes. Elsewhere, such as in a log file, what
/// would change is a line once in a while. Safe to use from several threads.
/// </summary>
internal sealed class Terminal
{
    private static readonly TimeSpan RedrawInterval = TimeSpan.FromMilliseconds(100),
        QuietInterval = TimeSpan.FromSeconds(30);

    private readonly Lock gate = new();
    private string status = "";
    private int drawnLength; // characters of the status on the screen
    private long drawnAt;
    private long lineAt = Stopwatch.GetTimestamp();

    /// <summary>Whether output goes to a terminal.</summary>
    public bool IsLive { get; } = !Console.IsOutputRedirected && Environment.GetEnvironmentVariable("TERM") != "dumb";

    /// <summary>Characters of a line.</summary>
    public static int Width => Size(() => Console.WindowWidth, 80);
    public static int Height => Size(() => Console.WindowHeight, 24);

    /// <summary>Text of at most so many characters.</summary>
    public static string Cut(string text, int width)
    {
        if (text.Length <= width)
            return text;
        return width < 2 ? text[..Math.Max(0, width)] : text[..(width - 1)] + "…";
    }

    /// <summary>Writes a line that stays, above the status.</summary>
    public void WriteLine(string line)
    {
        lock (gate)
        {
            lineAt = Stopwatch.GetTimestamp();
            if (!IsLive)
            {
                Write(line + Environment.NewLine);
                return;
            }
            Write(Erase() + line + Environment.NewLine);
            Draw();
        }
    }

    /// <summary>Shows what is being done now, below the lines; empty shows nothing.</summary>
    public void Show(string now)
    {
        lock (gate)
        {
            status = now;
            if (!IsLive)
                ShowOnceInAWhile();
            else if (now == "" || Stopwatch.GetElapsedTime(drawnAt) > RedrawInterval)
            {
                Write(Erase());
                Draw();
            }
        }
    }

    /// <summary>Where nothing can be redrawn, long work has a line whenever nothing else was written for a while.</summary>
    private void ShowOnceInAWhile()
    {
        if (status == "" || Stopwatch.GetElapsedTime(lineAt) < QuietInterval)
            return;
        lineAt = Stopwatch.GetTimestamp();
        Write(status + Environment.NewLine);
    }

    private void Draw()
    {
        string text = Cut(status, Width - 1); // a full line would move the cursor to the next
        Write(text);
        drawnLength = text.Length;
        drawnAt = Stopwatch.GetTimestamp();
    }

    /// <summary>What removes the status. A terminal that has become narrower since has wrapped it.</summary>
    private string Erase()
    {
        if (drawnLength == 0)
            return "";
        int wrapped = (drawnLength - 1) / Math.Max(1, Width);
        drawnLength = 0;
        return (wrapped > 0 ? $"\x1b[{wrapped}A" : "") + "\r\x1b[J";
    }

    private static void Write(string text)
    {
        try
        {
            Console.Write(text);
        }
        catch (IOException)
        {
            LostTerminal.Silence(); // closed before the signal of that came
        }
    }

    private static int Size(Func<int> read, int otherwise)
    {
        try
        {
            return read() is > 0 and var size ? size : otherwise;
        }
        catch (IOException)
        {
            return otherwise;
        }
    }
}
