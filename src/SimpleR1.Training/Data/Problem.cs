using System.Text.Json.Nodes;

namespace SimpleR1.Training.Data;

/// <summary>A question with a gold answer.</summary>
/// <param name="Question">What the model is asked, without any template.</param>
/// <param name="Answer">The gold answer; for GSM8K only what follows the last ####, commas removed.</param>
/// <param name="Fields">Every column of the row as it was read, for rewards that need more than the answer.</param>
public sealed record Problem(string Question, string Answer, IReadOnlyDictionary<string, JsonNode?> Fields);
