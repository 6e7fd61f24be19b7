using System.CommandLine;
using SimpleR1.Models.Checkpoints;

namespace SimpleR1.Commands;

internal static class ExportCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("model")
        {
            Description = "A model folder or a checkpoint (runs/NAME/checkpoints/step-…)",
        };
        var to = new Argument<string>("to") { Description = "Folder to write" };
        var type = new Option<WeightType>("--type")
        {
            Description = "F32, F16 or BF16",
            DefaultValueFactory = _ => WeightType.BF16,
        };
        var command = new Command(
            "export",
            "Write a model as a Hugging Face folder that transformers, vLLM and llama.cpp's converter load"
        )
        {
            model,
            to,
            type,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(() =>
                {
                    string source = parse.GetValue(model)!,
                        target = parse.GetValue(to)!;
                    if (Directory.Exists(target) && Directory.EnumerateFileSystemEntries(target).Any())
                        throw new IOException($"{target}: the folder is not empty; give a new one");
                    using var weights = Checkpoint.Load(source);
                    Checkpoint.Write(target, weights, parse.GetValue(type), source);
                    Console.WriteLine(
                        $"{target}: {weights.Layout.ParameterCount:N0} parameters in {parse.GetValue(type)}"
                    );
                    return Task.FromResult(0);
                })
        );
        return command;
    }
}
