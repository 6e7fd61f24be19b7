namespace SimpleR1.Models.Prompts.Jinja;

/// <summary>A template that can't be read or rendered; the message has the line in the template.</summary>
public sealed class JinjaException : Exception
{
    internal JinjaException(int line, string problem, Exception? inner = null)
        : base($"line {line} of the chat template: {problem}", inner)
    {
        Line = line;
    }

    /// <summary>The line in the template, from 1.</summary>
    public int Line { get; }
}
