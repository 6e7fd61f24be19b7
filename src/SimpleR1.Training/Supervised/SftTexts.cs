using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Prompts.Jinja;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;

namespace SimpleR1.Training.Supervised;

/// <summary>Texts of a source, and the order that they are drawn in.</summary>
internal sealed record TextSource(TrainingSequence[] Texts, DataOrder Order);

/// <summary>Texts to train on as token ids: prompt, answer, end of text.</summary>
internal sealed class SftTexts(SftRecipe recipe, Tokenizer tokenizer, ModelConfig config)
{
    /// <summary>The template of the prompts.</summary>
    public PromptTemplate Template { get; } =
        PromptTemplate.Create(
            recipe.Model.Template,
            new()
            {
                Folder = recipe.Model.Path ?? recipe.Model.Shape!.Tokenizer,
                System = recipe.Model.System,
                Variables = recipe.Model.TemplateOptions.Variables,
            }
        );

    /// <summary>The texts of a source, and the order that they are drawn in.</summary>
    /// <param name="log">Receives a line about rows that can't be used, and one about several sources.</param>
    /// <exception cref="InvalidDataException">The model has no end-of-sequence token, or a text is too long.</exception>
    public TextSource Load(DataSource source, Action<string>? log)
    {
        if (config.EosTokenIds.Count == 0)
            throw new InvalidDataException(
                "the model's config names no end-of-sequence token; a text has no end to learn"
            );
        var texts = Dataset.LoadTexts(source, log);
        string[] sources = [.. texts.Select(text => text.Source)];
        if (DataMix.Describe(source, sources) is { } mix)
            log?.Invoke($"texts of {mix}");
        return new([.. texts.Select(Encode)], DataMix.Order(source, sources, recipe.Seed));
    }

    /// <summary>With LearnPrompts every token but the first is trained, else only the answer's and the end.</summary>
    private TrainingSequence Encode(Demonstration text, int index)
    {
        int[] prompt = Prompt(text);
        int[] all = [.. prompt, .. tokenizer.Encode(text.Text), config.EosTokenIds[0]];
        if (all.Length > recipe.Training.SequenceLength)
        {
            string place = text.Origin == "" ? $"text {index}" : text.Origin;
            string beginning = text.Text[..Math.Min(60, text.Text.Length)];
            throw new InvalidDataException(
                $"{place}: {all.Length} tokens are more than training.sequence_length "
                    + $"({recipe.Training.SequenceLength}); raise it or cut the text. It begins: {beginning}"
            );
        }
        return new(all, recipe.Training.LearnPrompts ? 1 : Math.Max(1, prompt.Length));
    }

    /// <summary>What comes before the text that is learnt; of a conversation all but the assistant's last message.</summary>
    private int[] Prompt(Demonstration text)
    {
        IReadOnlyList<ChatMessage> asked = text.Messages is { Count: > 1 } messages
            ? [.. messages.SkipLast(1)]
            : [new("user", text.Question)];
        if (asked is [{ Content: "" }])
            return [];
        try
        {
            return Template.Encode(tokenizer, Template.Render(asked));
        }
        catch (Exception e) when (e is ArgumentException or JinjaException)
        {
            string place = text.Origin == "" ? "" : text.Origin + ": ";
            throw new InvalidDataException($"{place}no prompt by the template '{Template.Name}': {e.Message}", e);
        }
    }
}
