using System.Globalization;
using System.Text.RegularExpressions;

namespace SimpleR1.Training.Rewards.Mathematics;

/// <summary>English words for whole numbers: "eighteen", "twenty-five", "two hundred and six".</summary>
internal static partial class NumberWords
{
    private static readonly string[] Small =
    [
        .. (
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            + "seventeen eighteen nineteen"
        ).Split(' '),
    ];

    private static readonly string[] Tens =
    [
        "",
        "",
        .. "twenty thirty forty fifty sixty seventy eighty ninety".Split(' '),
    ];

    /// <summary>A single word as digits; null when it is no number.</summary>
    public static string? Digit(string word) => Array.IndexOf(Small, word) is >= 0 and int n ? Text(n) : null;

    /// <summary>A text as digits when all of it is a number in words; null otherwise.</summary>
    public static string? Digits(string text)
    {
        long total = 0;
        long group = 0;
        string[] words = Separator().Split(text.Trim().TrimEnd('.').ToLowerInvariant());
        if (words.Length > 16)
            return null;
        foreach (string word in words)
        {
            int small = Array.IndexOf(Small, word);
            int tens = Array.IndexOf(Tens, word, 2);
            if (small >= 0 && group % (group % 100 >= 20 && small < 10 ? 10 : 100) == 0)
                group += small;
            else if (tens > 0 && group % 100 == 0)
                group += 10 * tens;
            else if (word == "hundred" && group is > 0 and < 10)
                group *= 100;
            else if (word is "thousand" or "million" && group is > 0 and < 1000)
            {
                total += group * (word == "thousand" ? 1000 : 1_000_000);
                group = 0;
            }
            else if (word != "and" || group % 100 != 0 || total + group == 0)
                return null;
        }
        return Text(total + group);
    }

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    [GeneratedRegex(@"[\s-]+")]
    private static partial Regex Separator();
}
