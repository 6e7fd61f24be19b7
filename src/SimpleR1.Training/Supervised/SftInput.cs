using SimpleR1.Models;
using SimpleR1.Models.Tokenization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Planning;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Runs;

namespace SimpleR1.Training.Supervised;

/// <summary>All that an sft recipe's files hold, except weights: read and checked before anything slow starts.</summary>
internal sealed record SftInput
{
    private const int CpuTokens = 4096;

    public required ModelConfig Config { get; init; }
    public required Tokenizer Tokenizer { get; init; }

    /// <summary>What the trained model's folder has besides weights.</summary>
    public required ModelFiles Files { get; init; }
    public required TrainingSequence[] Texts { get; init; }

    /// <summary>The order that the texts are drawn in.</summary>
    public required DataOrder Order { get; init; }

    /// <summary>Null when the recipe has none.</summary>
    public required TrainingSequence[]? HeldOut { get; init; }
    public required TrainerMemory Memory { get; init; }

    /// <exception cref="RecipeException">
    /// Something in the recipe is wrong, or in what it names: the run's folder, the output, the model, the texts. The
    /// exception has all of it.
    /// </exception>
    public static SftInput Load(CheckedRecipe<SftRecipe> checking, SftOptions options)
    {
        var recipe = checking.Recipe;
        var run = checking.Try("name", () => RunFolder.Find(options.RunsFolder, recipe.Name, options.Existing));
        if (run is not null)
            checking.Try("output", () => SftOutput.Require(recipe, run, options.Existing));

        var (config, tokenizer) = LoadModel(checking);
        if (config is null || tokenizer is null)
            throw checking.ToException();
        var memory = PlanMemory(checking, config, options.Log);
        var encoder = checking.Try("model.template", () => new SftTexts(recipe, tokenizer, config));
        var texts = encoder is null
            ? null
            : checking.Try("data.train", () => encoder.Load(recipe.Data.Train, options.Log));
        TextSource? heldOut = null;
        if (encoder is not null && recipe.Data.Evaluation is { } evaluation)
            heldOut = checking.Try("data.evaluation", () => encoder.Load(evaluation, options.Log));
        checking.Require();

        return new()
        {
            Config = config,
            Tokenizer = tokenizer,
            Files = new(recipe.Model.Path ?? recipe.Model.Shape!.Tokenizer, tokenizer, encoder!.Template),
            Texts = texts!.Texts,
            Order = texts.Order,
            HeldOut = heldOut?.Texts,
            Memory = memory!,
        };
    }

    private static TrainerMemory? PlanMemory(CheckedRecipe<SftRecipe> checking, ModelConfig config, Action<string> log)
    {
        var training = checking.Recipe.Training;
        var device = checking.Try(
            "training.device",
            () => TrainerDevice.Choose(training.Device, training.Type, config, log)
        );
        var options = new MicroBatchOptions
        {
            Tokens = training.TokensPerMicroBatch,
            GradientCheckpointing = training.GradientCheckpointing,
            CpuTokens = CpuTokens,
            LongestSequence = training.SequenceLength,
        };
        return device is null
            ? null
            : checking.Try(
                "training.tokens_per_micro_batch",
                () => TrainerMemory.Plan(new(config), device, options, TrainerMemory.FreeOn(device))
            );
    }

    private static (ModelConfig?, Tokenizer?) LoadModel(CheckedRecipe<SftRecipe> checking)
    {
        var model = checking.Recipe.Model;
        if (model.Path is { } path)
        {
            var files = CheckedModel.Check(checking, "model.path", path);
            return (files?.Config, files?.Tokenizer);
        }
        if (model.Shape is not { } shape)
            return (null, null); // the recipe's own mistake, which is reported
        var tokenizer = checking.Try("model.shape.tokenizer", () => Tokenizer.Load(shape.Tokenizer));
        var config = tokenizer is null
            ? null
            : checking.Try("model.shape.tokenizer", () => NewModel.Config(shape, tokenizer));
        return (config, tokenizer);
    }
}
