using System.Text.RegularExpressions;

namespace SimpleR1.Training.Runs.Results;

/// <summary>Folders of the machine that made a result, which are nothing to publish.</summary>
public static partial class MachinePaths
{
    /// <summary>A text in which each absolute path, and each that begins with ~ or .., has its last part only.</summary>
    public static string Remove(string text) => Folders().Replace(text, "");

    /// <summary>The folders of a path that begins a word or a value; the part after them stays.</summary>
    [GeneratedRegex("""(?<=^|[\s='"\[{(,:])(?:~|\.\.)?/(?:[^/\s'",\]})]+/)*(?=[^/\s'",\]})])""")]
    private static partial Regex Folders();
}
