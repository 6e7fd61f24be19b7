using System.CommandLine;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;
using SimpleR1.Tensors.Cuda;

namespace SimpleR1.Commands;

internal static class GenerateCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("model") { Description = "A model folder or a checkpoint" };
        var prompt = new Option<string>("--prompt", "-p")
        {
            Description = "The text to go on from; \\n is a new line",
            Required = true,
        };
        var template = new Option<string>("--template")
        {
            Description = "Put around the prompt: r1-zero, r1-zero-one-shot, chatml, plain, or a text with {question}",
            DefaultValueFactory = _ => "plain",
        };
        var max = new Option<int>("--max-tokens")
        {
            Description = "Longest completion",
            DefaultValueFactory = _ => 256,
        };
        var temperature = new Option<double>("--temperature")
        {
            Description = "0 is greedy",
            DefaultValueFactory = _ => 1,
        };
        var topP = new Option<double>("--top-p")
        {
            Description = "Keep the most probable tokens up to this mass",
            DefaultValueFactory = _ => 1,
        };
        var seed = new Option<ulong>("--seed")
        {
            Description = "The same seed draws the same text",
            DefaultValueFactory = _ => (ulong)Random.Shared.NextInt64(),
        };
        var stop = new Option<string[]>("--stop") { Description = "A text that ends the completion (repeatable)" };
        var (device, type, utilization, noGraphs) = (
            DeviceOptions.Device(),
            DeviceOptions.Type(),
            DeviceOptions.Utilization(),
            DeviceOptions.NoGraphs()
        );
        var command = new Command("generate", "Complete a prompt, printed as it is made")
        {
            model,
            prompt,
            template,
            max,
            temperature,
            topP,
            seed,
            stop,
            device,
            type,
            utilization,
            noGraphs,
        };
        command.SetAction(
            (parse, _) =>
                CommandErrors.RunAsync(async () =>
                {
                    string folder = parse.GetValue(model)!;
                    var gpu = CudaDevice.Parse(parse.GetValue(device)!);
                    using var weights = gpu is null
                        ? Checkpoint.Load(folder)
                        : Checkpoint.Load(folder, DeviceOptions.ParseType(parse.GetValue(type)!, gpu), gpu);
                    var tokenizer = Tokenizer.Load(folder);
                    tokenizer.CheckFits(weights.Layout.Config);
                    CpuParallel.Threads = Environment.ProcessorCount;
                    using var interrupts = new Interrupts("stopping");
                    await using var engine = new EngineThread(() =>
                        new Engine(
                            new Decoder(weights),
                            tokenizer,
                            DeviceOptions.Engine(gpu, parse.GetValue(utilization), parse.GetValue(noGraphs))
                        )
                    );
                    string text = PromptTemplate
                        .Create(parse.GetValue(template)!)
                        .Render(parse.GetValue(prompt)!.Replace("\\n", "\n", StringComparison.Ordinal));
                    var request = new GenerationRequest(
                        "prompt",
                        tokenizer.EncodePrompt(text),
                        new()
                        {
                            MaxTokens = parse.GetValue(max),
                            Temperature = parse.GetValue(temperature),
                            TopP = parse.GetValue(topP),
                            Seed = parse.GetValue(seed),
                            StopStrings = parse.GetValue(stop) ?? [],
                        }
                    );
                    await foreach (var token in engine.StreamAsync(request, interrupts.Token))
                        Console.Write(token.Text);
                    Console.WriteLine();
                    return 0;
                })
        );
        return command;
    }
}
