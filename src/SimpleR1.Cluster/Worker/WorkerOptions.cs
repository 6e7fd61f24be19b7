using System.Globalization;

namespace SimpleR1.Cluster.Worker;

/// <summary>
/// The arguments of a worker process. The process gets everything else from head and trainer when it has joined, and the key
/// from its environment.
/// </summary>
public sealed record WorkerOptions
{
    /// <summary>HOST:PORT of the head.</summary>
    public required string Join { get; init; }

    /// <summary>The worker's name, which one process of a cluster has at a time.</summary>
    public required string Name { get; init; }

    /// <summary>Tells this process from earlier and later ones of its name.</summary>
    public required string Instance { get; init; }
    public WorkerSettings Worker { get; init; } = new();

    /// <summary>The process to end with; 0 for none.</summary>
    public int Parent { get; init; }

    internal string[] ToArguments() =>
        [
            "--join",
            Join,
            "--name",
            Name,
            "--instance",
            Instance,
            "--device",
            Worker.Device,
            "--type",
            Worker.Type,
            "--threads",
            Text(Worker.Threads),
            "--silo-port",
            Text(Worker.SiloPort),
            "--drain-timeout",
            Text((int)Worker.DrainTimeout.TotalSeconds),
            "--parent",
            Text(Parent),
        ];

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>Reads the arguments of a worker process (without the leading <c>worker</c>).</summary>
    /// <exception cref="ArgumentException">An option is missing, unknown or malformed.</exception>
    public static WorkerOptions Parse(IReadOnlyList<string> arguments)
    {
        if (arguments.Count % 2 != 0)
            throw new ArgumentException("Expected pairs of --option and value");

        var values = new Dictionary<string, string>();
        for (int i = 0; i < arguments.Count; i += 2)
            values[arguments[i]] = arguments[i + 1];

        var options = new WorkerOptions
        {
            Join = Take(values, "--join"),
            Name = Take(values, "--name"),
            Instance = Take(values, "--instance"),
            Worker = new()
            {
                Device = Take(values, "--device"),
                Type = Take(values, "--type"),
                Threads = TakeNumber(values, "--threads"),
                SiloPort = TakeNumber(values, "--silo-port"),
                DrainTimeout = TimeSpan.FromSeconds(TakeNumber(values, "--drain-timeout")),
            },
            Parent = TakeNumber(values, "--parent"),
        };
        _ = new HeadAddress(options.Join, null).Parse();
        if (values.Count > 0)
            throw new ArgumentException($"Unknown option {values.Keys.First()}");

        return options;
    }

    private static string Take(Dictionary<string, string> values, string option) =>
        values.Remove(option, out string? value)
            ? value
            : throw new ArgumentException(
                $"A worker process needs {option}; it is started by train or simple-r1 worker"
            );

    private static int TakeNumber(Dictionary<string, string> values, string option)
    {
        string text = Take(values, option);
        return int.TryParse(text, CultureInfo.InvariantCulture, out int number)
            ? number
            : throw new ArgumentException($"{option}: expected a number, found '{text}'");
    }
}
