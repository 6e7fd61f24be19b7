using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Supervised;

/// <summary>Texts to train on as token ids: prompt, answer, end of text.</summary>
internal sealed class SftTexts(SftRecipe recipe, Tokenizer tokenizer, ModelConfig config)
{
    private readonly PromptTemplate template = PromptTemplate.Create(recipe.Model.Template);

    /// <exception cref="InvalidDataException">The model has no end-of-sequence token, or a text is too long.</exception>
    public TrainingSequence[] Load(DataSource source)
    {
        if (config.EosTokenIds.Count == 0)
            throw new InvalidDataException(
                "the model's config names no end-of-sequence token; a text has no end to learn"
            );
        return [.. Dataset.Load(source).Select(Encode)];
    }

    /// <summary>With LearnPrompts every token but the first is trained, else only the answer's and the end.</summary>
    private TrainingSequence Encode(Problem problem, int index)
    {
        int[] prompt = problem.Question.Length == 0 ? [] : tokenizer.EncodePrompt(template.Render(problem.Question));
        int[] all = [.. prompt, .. tokenizer.Encode(problem.Answer), config.EosTokenIds[0]];
        if (all.Length > recipe.Training.SequenceLength)
        {
            string beginning = problem.Answer[..Math.Min(60, problem.Answer.Length)];
            throw new InvalidDataException(
                $"text {index} has {all.Length} tokens, more than training.sequence_length "
                    + $"({recipe.Training.SequenceLength}); raise it or cut the text. It begins: {beginning}"
            );
        }
        return new(all, recipe.Training.LearnPrompts ? 1 : Math.Max(1, prompt.Length));
    }
}
