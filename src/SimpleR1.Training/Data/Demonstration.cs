using SimpleR1.Models.Prompts;

namespace SimpleR1.Training.Data;

/// <summary>A text to imitate.</summary>
/// <param name="Question">What comes before it, without any template; empty when nothing does.</param>
/// <param name="Text">What is learnt, with every space and line break that the file has.</param>
public sealed record Demonstration(string Question, string Text)
{
    /// <summary>
    /// The whole conversation, which ends with the assistant's message, for rows that hold messages; null for rows of
    /// text.
    /// </summary>
    public IReadOnlyList<ChatMessage>? Messages { get; init; }

    /// <summary>File and place of the row, for messages.</summary>
    public string Origin { get; init; } = "";

    /// <summary>Name of the source, as the recipe or its file calls it.</summary>
    public string Source { get; init; } = "";
}
