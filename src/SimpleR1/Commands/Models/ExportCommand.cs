using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Tensors;

namespace SimpleR1.Commands.Models;

internal static class ExportCommand
{
    public static Command Create()
    {
        var command = new Command(
            "export",
            "Write a model as a Hugging Face folder, for transformers, vLLM and llama.cpp's converter"
        );
        var model = command
            .AddArgument("model")
            .Describe("A model folder or a checkpoint (runs/NAME/checkpoints/step-…)");
        var folder = command.AddArgument("to").Describe("Folder to write");
        var type = DeviceOptions.AddType(command).Describe("Element type of the weights");
        command.SetHandler(parse =>
            Export(parse.GetValue(model)!, parse.GetValue(folder)!, DeviceOptions.ParseType(parse.GetValue(type)!))
        );
        return command;
    }

    private static void Export(string source, string target, ElementType type)
    {
        if (Directory.Exists(target) && Directory.EnumerateFileSystemEntries(target).Any())
            throw new IOException($"{target}: the folder is not empty; give a new one");
        using var weights = Checkpoint.Load(source);
        Checkpoint.Write(target, weights, Enum.Parse<WeightType>(type.SafetensorsName), source);
        Console.WriteLine($"{target}: {weights.Layout.ParameterCount:N0} parameters in {type.Name}");
    }
}
