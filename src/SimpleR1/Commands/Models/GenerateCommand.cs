using System.CommandLine;
using SimpleR1.Commands.Options;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Tensors;

namespace SimpleR1.Commands.Models;

internal static class GenerateCommand
{
    public static Command Create()
    {
        var command = new Command("generate", "Complete a prompt, printed token by token");
        var model = command.AddArgument("model").Describe("A model folder or a checkpoint");
        var prompt = new PromptOptions(command);
        var sampling = new SamplingOptions(command);
        var device = new DeviceOptions(command);
        command.SetHandler(async parse =>
        {
            // The model.
            string folder = parse.GetValue(model)!;
            var gpu = device.Gpu(parse);
            using var weights = device.LoadWeights(parse, folder, gpu);
            var tokenizer = Tokenizer.Load(folder);
            tokenizer.CheckFits(weights.Layout.Config);
            if (weights.Layout.Config.EndWarning is { } warning)
                Console.Error.WriteLine(warning);

            // Its engine.
            CpuParallel.Threads = Environment.ProcessorCount;
            using var interrupts = new Interrupts("stopping");
            using var decoder = new Decoder(weights);
            await using var engine = new EngineThread(() => new Engine(decoder, tokenizer, device.Engine(parse, gpu)));

            // The completion.
            int[] ids = prompt.Encode(parse, folder, tokenizer);
            var request = new GenerationRequest("prompt", ids, sampling.Read(parse));
            await foreach (var token in engine.StreamAsync(request, interrupts.Token))
                Console.Write(token.Text);
            Console.WriteLine();
            return 0;
        });
        return command;
    }

    private sealed class PromptOptions(Command command)
    {
        private readonly Option<string> prompt = command
            .AddOption<string>("--prompt", "-p")
            .Require()
            .Describe("The text to continue; \\n is a new line");
        private readonly Option<string> template = command
            .AddDefault("--template", "plain")
            .Describe(
                "Text around the prompt: chat (the model's own), r1-zero, r1-zero-one-shot, chatml, plain, or a text with {question}"
            );

        public int[] Encode(ParseResult parse, string folder, Tokenizer tokenizer)
        {
            string question = parse.GetValue(prompt)!.Replace("\\n", "\n", StringComparison.Ordinal);
            var prompts = PromptTemplate.Create(parse.GetValue(template)!, new() { Folder = folder });
            return prompts.Encode(tokenizer, prompts.Render(question));
        }
    }

    private sealed class SamplingOptions(Command command)
    {
        private readonly Option<int> maxTokens = command.AddDefault("--max-tokens", 256).Describe("Longest completion");
        private readonly Option<double> temperature = command
            .AddDefault("--temperature", 1.0)
            .Describe("Temperature of sampling; 0 is greedy");
        private readonly Option<double> topP = command
            .AddDefault("--top-p", 1.0)
            .Describe("Keep the most probable tokens up to this mass");
        private readonly Option<ulong> seed = command
            .AddOption<ulong>("--seed")
            .WithDefault(() => (ulong)Random.Shared.NextInt64())
            .Describe("The same seed draws the same text");
        private readonly Option<string[]> stop = command
            .AddOption<string[]>("--stop")
            .Describe("A text that ends the completion (repeatable)");

        public SamplingParameters Read(ParseResult parse) =>
            new()
            {
                MaxTokens = parse.GetValue(maxTokens),
                Temperature = parse.GetValue(temperature),
                TopP = parse.GetValue(topP),
                Seed = parse.GetValue(seed),
                StopStrings = parse.GetValue(stop) ?? [],
            };
    }
}
