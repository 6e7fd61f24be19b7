using static System.FormattableString;

namespace SimpleR1.Screen;

/// <summary>Times and counts for people.</summary>
internal static class Durations
{
    private const int Minute = 60;
    private const int Hour = 60 * Minute;
    private const int Day = 24 * Hour;

    /// <summary>"45 s", "12:05 min", "5:07 h" (hours and minutes), "3 d 04 h".</summary>
    public static string Text(double seconds)
    {
        if (!double.IsFinite(seconds))
            return "?";
        long whole = (long)Math.Round(Math.Clamp(seconds, 0, 1e12));
        return whole switch
        {
            < Minute => Invariant($"{whole} s"),
            < Hour => Invariant($"{whole / Minute}:{whole % Minute:00} min"),
            < Day => Invariant($"{whole / Hour}:{whole % Hour / Minute:00} h"),
            _ => Invariant($"{whole / Day} d {whole % Day / Hour:00} h"),
        };
    }

    /// <summary>"1 step", "2 steps".</summary>
    public static string Count(long count, string noun) => Invariant($"{count} {noun}{(count == 1 ? "" : "s")}");
}
