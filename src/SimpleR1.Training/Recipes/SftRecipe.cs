using System.ComponentModel;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Recipes;

/// <summary>Supervised training on text: pretraining a small base model, or a cold start.</summary>
public sealed record SftRecipe : RecipeDocument, IRecipeSection
{
    [Description("The run's name; its folder is runs/NAME.")]
    public required string Name { get; init; }

    [Description("Everything random in the run follows from it.")]
    public ulong Seed { get; init; } = 1;

    [Description("The model to start from, or the shape of a new one.")]
    public required SftModelSection Model { get; init; }

    [Description("Texts to train on: a question column is the prompt, an answer column is what is learnt.")]
    public required DataSection Data { get; init; }

    [Description("AdamW and its learning-rate schedule.")]
    public OptimizerSection Optimizer { get; init; } = new();

    [Description("Steps, batches, checkpoints.")]
    public SftTrainingSection Training { get; init; } = new();

    [Description("Folder for the trained model, as a Hugging Face checkpoint; written after the last step.")]
    public required string Output { get; init; }

    public IEnumerable<Conflict> Validate()
    {
        if (string.IsNullOrWhiteSpace(Name))
            yield return new("must not be empty", "name");
        if (Name.IndexOfAny(['/', '\\', '\0']) >= 0 || Name is "." or "..")
            yield return new("must be a plain folder name, without '/'", "name");
        if (Training.TokensPerMicroBatch < Training.SequenceLength)
            yield return new(
                $"a micro-batch of {Training.TokensPerMicroBatch} tokens can't hold one sequence of {Training.SequenceLength}",
                "training.tokens_per_micro_batch",
                "training.sequence_length"
            );
        if (Training.TokensPerBatch < Training.SequenceLength)
            yield return new(
                $"a batch of {Training.TokensPerBatch} tokens can't hold one sequence of {Training.SequenceLength}",
                "training.tokens_per_batch",
                "training.sequence_length"
            );
        if (Model.Shape is { } shape && shape.MaxPositions < Training.SequenceLength)
            yield return new(
                $"sequences of {Training.SequenceLength} tokens do not fit {shape.MaxPositions} positions",
                "training.sequence_length",
                "model.shape.max_positions"
            );
    }
}

public sealed record SftModelSection : IRecipeSection
{
    [Description("Folder of a Hugging Face checkpoint to start from.")]
    public string? Path { get; init; }

    [Description("A new model of random weights; instead of path.")]
    public ModelShape? Shape { get; init; }

    [Description(
        "How a question becomes a prompt: chat (the model's own chat template), r1-zero, r1-zero-one-shot, chatml, "
            + "plain, or text with {question}."
    )]
    public string Template { get; init; } = "plain";

    [Description("System message of conversations that begin with none: for chat, chatml and text with {system}.")]
    public string? System { get; init; }

    [Description("Variables of the templates chat and chatml, such as {enable_thinking: false}.")]
    public TemplateOptions TemplateOptions { get; init; } = new();

    public IEnumerable<Conflict> Validate()
    {
        if (Path is null && Shape is null)
            yield return new("give 'path' (a checkpoint) or 'shape' (a new model)", "path", "shape");
        if (Path is not null && Shape is not null)
            yield return new("'path' and 'shape' exclude each other; keep one", "shape", "path");
    }
}

public sealed record ModelShape : IRecipeSection
{
    [Description("Folder with tokenizer.json; it gives the vocabulary.")]
    public required string Tokenizer { get; init; }

    [Description("Architecture.")]
    public ModelFamily Family { get; init; } = ModelFamily.Llama;

    [Description("Width of the residual stream.")]
    [Limits(AtLeast = 1)]
    public int HiddenSize { get; init; } = 128;

    [Description("Decoder layers.")]
    [Limits(AtLeast = 1)]
    public int Layers { get; init; } = 4;

    [Description("Query heads.")]
    [Limits(AtLeast = 1)]
    public int Heads { get; init; } = 4;

    [Description("Key/value heads; each serves heads / key_value_heads query heads.")]
    [Limits(AtLeast = 1)]
    public int KeyValueHeads { get; init; } = 4;

    [Description("Elements of one head; without it hidden_size / heads.")]
    [Limits(AtLeast = 2)]
    public int? HeadDimension { get; init; }

    [Description("Width of the feed-forward layer.")]
    [Limits(AtLeast = 1)]
    public int IntermediateSize { get; init; } = 384;

    [Description("Longest context, in tokens.")]
    [Limits(AtLeast = 1)]
    public int MaxPositions { get; init; } = 512;

    [Description("Base of the rotary frequencies.")]
    [Limits(Above = 1)]
    public double RopeTheta { get; init; } = 10_000;

    [Description("The output projection is the embedding matrix itself.")]
    public bool TieEmbeddings { get; init; } = true;

    public IEnumerable<Conflict> Validate()
    {
        if (Heads % KeyValueHeads != 0)
            yield return new(
                $"{Heads} query heads can't share {KeyValueHeads} key/value heads evenly",
                "key_value_heads",
                "heads"
            );
        if (HeadDimension is null && HiddenSize % Heads != 0)
            yield return new(
                $"{HiddenSize} is not a multiple of {Heads} heads; give head_dimension or another width",
                "hidden_size",
                "heads"
            );
        if ((HeadDimension ?? HiddenSize / Heads) % 2 != 0)
            yield return new("rotary embeddings need an even head dimension", "head_dimension", "hidden_size", "heads");
    }
}

public sealed record SftTrainingSection
{
    [Description("Optimizer updates.")]
    [Limits(AtLeast = 1)]
    public int Steps { get; init; } = 1000;

    [Description("Tokens of one update.")]
    [Limits(AtLeast = 1)]
    public int TokensPerBatch { get; init; } = 16_384;

    [Description("What the trainer computes on: cpu, cuda:N, or auto: the first GPU that is free, else the CPU.")]
    public string Device { get; init; } = "auto";

    [Description(
        "Element type of weights and activations: bf16 on a GPU, where a remainder beside the weights keeps them exact in f32, or "
            + "f32. Without it bf16 on a GPU. A CPU trains in f32."
    )]
    public TrainedType? Type { get; init; }

    [Description(
        "Tokens computed at once; sequences are packed, so none is padding. auto, or without it: 4096 on a CPU, and on a GPU "
            + "what its memory holds, 32768 at most."
    )]
    [Limits(AtLeast = 1)]
    public int? TokensPerMicroBatch { get; init; }

    [Description("Longest sequence, in tokens; longer texts are an error.")]
    [Limits(AtLeast = 2)]
    public int SequenceLength { get; init; } = 256;

    [Description("Learn the prompt's tokens too, as pretraining does; else only the answer's.")]
    public bool LearnPrompts { get; init; } = true;

    [Description("Compute layers again in the backward pass instead of keeping their activations.")]
    public bool GradientCheckpointing { get; init; }

    [Description("Steps between checkpoints; 0 writes only the last.")]
    [Limits(AtLeast = 0)]
    public int CheckpointEvery { get; init; } = 200;

    [Description("Newest checkpoints kept.")]
    [Limits(AtLeast = 1)]
    public int KeepCheckpoints { get; init; } = 2;

    [Description("Element type of the model written at the end.")]
    public WeightType WeightType { get; init; } = WeightType.BF16;

    [Description("Steps between evaluations of the loss on data.evaluation; 0 evaluates only at the end.")]
    [Limits(AtLeast = 0)]
    public int EvaluateEvery { get; init; }
}
