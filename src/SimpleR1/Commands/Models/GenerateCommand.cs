using System.CommandLine;
using System.Text.RegularExpressions;
using SimpleR1.Commands.Options;
using SimpleR1.Inference;
using SimpleR1.Models;
using SimpleR1.Models.Prompts;
using SimpleR1.Models.Tokenization;
using SimpleR1.Screen;
using SimpleR1.Tensors;

namespace SimpleR1.Commands.Models;

internal static partial class GenerateCommand
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

    private sealed partial class PromptOptions(Command command)
    {
        private readonly Option<string?> prompt = command
            .AddOption<string?>("--prompt", "-p")
            .Describe("The text to continue, as it stands");
        private readonly Option<string?> promptFile = command
            .AddOption<string?>("--prompt-file")
            .Describe("A file that holds the text to continue, instead of --prompt; - is standard input");
        private readonly Option<bool> escapes = command
            .AddOption<bool>("--escapes")
            .Describe("In --prompt, \\n is a new line, \\t a tab and \\\\ a backslash");
        private readonly Option<string> template = command
            .AddDefault("--template", "plain")
            .Describe(
                "Text around the prompt: chat (the model's own), r1-zero, r1-zero-one-shot, chatml, plain, or a text with {question}"
            );

        public int[] Encode(ParseResult parse, string folder, Tokenizer tokenizer)
        {
            var prompts = PromptTemplate.Create(parse.GetValue(template)!, new() { Folder = folder });
            return prompts.Encode(tokenizer, prompts.Render(Question(parse)));
        }

        private string Question(ParseResult parse)
        {
            bool unescapes = parse.GetValue(escapes);
            return (parse.GetValue(prompt), parse.GetValue(promptFile)) switch
            {
                ({ } text, null) => unescapes ? Unescape(text) : text,
                (null, _) when unescapes => throw new ArgumentException(
                    "--escapes: a file's text is taken as it stands"
                ),
                (null, "-") => Console.In.ReadToEnd(),
                (null, { } file) => File.ReadAllText(file),
                _ => throw new ArgumentException("give the text to continue: either --prompt or --prompt-file"),
            };
        }

        private static string Unescape(string text) =>
            Escape()
                .Replace(
                    text,
                    match =>
                        match.Value[1] switch
                        {
                            'n' => "\n",
                            't' => "\t",
                            _ => "\\",
                        }
                );

        [GeneratedRegex(@"\\[nt\\]")]
        private static partial Regex Escape();
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
