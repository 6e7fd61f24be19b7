using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Tokenization;

namespace SimpleR1.Training.Recipes;

/// <summary>A model folder's configuration and tokenizer.</summary>
internal sealed record CheckedModel(ModelConfig Config, Tokenizer Tokenizer)
{
    /// <summary>Checks all files of a model folder; of the weights, that they are there and have the right shapes.</summary>
    /// <param name="key">The recipe's key of the folder.</param>
    /// <returns>Null, and problems of the key, where something is wrong.</returns>
    public static CheckedModel? Check<T>(CheckedRecipe<T> checking, string key, string folder)
        where T : RecipeDocument
    {
        if (checking.Try(key, () => ModelConfigFile.Load(folder)) is not { } config)
            return null;
        var tokenizer = checking.Try(key, () => LoadTokenizer(folder, config));
        checking.Try(key, () => Checkpoint.Check(folder, new(config)));
        return tokenizer is null ? null : new(config, tokenizer);
    }

    private static Tokenizer LoadTokenizer(string folder, ModelConfig config)
    {
        var tokenizer = Tokenizer.Load(folder);
        tokenizer.CheckFits(config);
        return tokenizer;
    }
}
