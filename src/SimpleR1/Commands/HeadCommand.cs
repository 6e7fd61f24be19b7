using System.CommandLine;
using System.Net;
using SimpleR1.Cluster;

namespace SimpleR1.Commands;

internal static class HeadCommand
{
    private const int DefaultPort = 7400;

    public static Command Create()
    {
        var port = new Option<int>("--port") { Description = "The port that others join; its silo takes the next one", DefaultValueFactory = _ => DefaultPort };
        var address = new Option<string?>("--address") { Description = "This machine's address for the cluster (default: 127.0.0.1; with a key, the address of the default route)" };
        var key = ClusterOption.Key();
        var membership = new Option<string?>("--membership") { Description = "redis://[:PASSWORD@]HOST[:PORT] keeps the membership in Redis, so that it survives the head; by default it is in the head" };
        var name = new Option<string>("--cluster") { Description = "Tells clusters apart that share a Redis", DefaultValueFactory = _ => "default" };
        var command = new Command("head", "Be the meeting place of a cluster: workers and trainers join it") { port, address, key, membership, name };
        command.SetAction((parse, _) => CommandErrors.RunAsync(async () =>
        {
            using var interrupts = new Interrupts("the head leaves; workers wait for the next one");
            var options = new HeadOptions
            {
                Port = parse.GetValue(port), Key = ClusterOption.Read(parse.GetValue(key)), Membership = parse.GetValue(membership), Name = parse.GetValue(name)!,
                Address = parse.GetValue(address) is { } text ? IPAddress.TryParse(text, out var ip) ? ip : throw new ArgumentException($"--address: expected an IP address, found '{text}'") : null,
                Say = line => Console.WriteLine($"{DateTime.Now:HH:mm:ss} {line}"),
            };
            await using var head = await Head.StartAsync(options, interrupts.Token);
            Console.WriteLine($"head ready; join with: simple-r1 worker --join {head.Join}{(options.Key is null ? "   (no key: this machine only)" : "   and the same key")}");
            try { await Task.Delay(Timeout.Infinite, interrupts.Token); }
            catch (OperationCanceledException) { }
            return 0;
        }));
        return command;
    }
}
