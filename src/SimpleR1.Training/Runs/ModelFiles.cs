using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Training.Runs;

/// <summary>What a checkpoint has besides weights: the model's files, and the template that it is trained with.</summary>
/// <param name="Folder">The model's folder.</param>
public sealed record ModelFiles(string Folder, Tokenizer Tokenizer, PromptTemplate Template);
