using YamlDotNet.Core;
using YamlDotNet.Core.Events;

namespace SimpleR1.Training.Recipes.Yaml;

/// <summary>
/// A piece of a recipe before it has a type, with where it was written: "file:line", or the override that set it.
/// </summary>
internal abstract class RecipeNode
{
    public required string Origin { get; init; }
    public abstract string Kind { get; }

    /// <summary>A copy that shares nothing that can change: an override of one use of an anchor leaves the others.</summary>
    public abstract RecipeNode Copy();
}

/// <summary>A single value. <see cref="Text"/> is null when the recipe says null, ~ or nothing.</summary>
internal sealed class ScalarNode : RecipeNode
{
    public required string? Text { get; init; }
    public bool Quoted { get; init; }
    public override string Kind
    {
        get
        {
            if (Text is null)
                return "nothing";
            return Quoted ? $"the text '{Text}'" : $"'{Text}'";
        }
    }

    public override RecipeNode Copy() => this;
}

internal sealed class ListNode : RecipeNode
{
    public List<RecipeNode> Items { get; } = [];
    public override string Kind => $"a list of {Items.Count}";

    public override RecipeNode Copy()
    {
        var copy = new ListNode { Origin = Origin };
        copy.Items.AddRange(Items.Select(item => item.Copy()));
        return copy;
    }
}

/// <summary>Keys and values in the order written.</summary>
internal sealed class MapNode : RecipeNode
{
    public sealed record Entry(string Key, string Origin, RecipeNode Value);

    public List<Entry> Entries { get; } = [];
    public override string Kind => "a section with keys";

    public override RecipeNode Copy()
    {
        var copy = new MapNode { Origin = Origin };
        copy.Entries.AddRange(Entries.Select(entry => entry with { Value = entry.Value.Copy() }));
        return copy;
    }
}

/// <summary>
/// YAML text → nodes. Built on the parser's events because YamlDotNet's own tree stops at the first duplicate key.
/// </summary>
internal sealed class RecipeReader(IParser parser, Func<Mark, string> origin, List<RecipeProblem> problems)
{
    private const int MaxDepth = 32;
    private const string MergeKey = "<<"; // YAML 1.1's: takes over the keys of other sections
    private readonly Dictionary<string, RecipeNode> anchors = [];

    /// <summary>The one document in <paramref name="text"/>; null, and a problem, when it isn't YAML.</summary>
    public static RecipeNode? Read(string text, Func<Mark, string> origin, List<RecipeProblem> problems)
    {
        var parser = new Parser(new StringReader(text));
        try
        {
            parser.Consume<StreamStart>();
            if (parser.TryConsume<StreamEnd>(out _))
                return new MapNode { Origin = origin(Mark.Empty) };
            parser.Consume<DocumentStart>();
            var node = new RecipeReader(parser, origin, problems).Node(0);
            parser.Consume<DocumentEnd>();
            if (!parser.TryConsume<StreamEnd>(out _))
                problems.Add(
                    new(
                        origin(parser.Current!.Start),
                        "",
                        "a second YAML document; a recipe is one document (remove the '---')"
                    )
                );
            return node;
        }
        catch (YamlException e)
        {
            problems.Add(new(origin(e.Start), "", "not valid YAML: " + (e.InnerException?.Message ?? e.Message)));
            return null;
        }
        catch (InvalidOperationException) // what YamlDotNet's scanner throws on an unfinished flow list
        {
            problems.Add(
                new(
                    origin(parser.Current?.End ?? Mark.Empty),
                    "",
                    "not valid YAML after this line; is a bracket left open?"
                )
            );
            return null;
        }
    }

    /// <summary>True for the ways in which YAML writes no value.</summary>
    public static bool IsNothing(string plain) => plain is "" or "~" or "null" or "Null" or "NULL";

    private RecipeNode Node(int depth)
    {
        var start = parser.Current!.Start;
        if (depth > MaxDepth)
            throw new YamlException(start, start, $"nested deeper than {MaxDepth} levels");
        if (parser.TryConsume<AnchorAlias>(out var alias))
            return anchors.TryGetValue(alias.Value.Value, out var known)
                ? known.Copy()
                : throw new YamlException(start, start, $"unknown anchor *{alias.Value}");
        string anchor = parser.Current is NodeEvent { Anchor.IsEmpty: false } named ? named.Anchor.Value : "";
        RecipeNode node;
        if (parser.TryConsume<Scalar>(out var scalar))
        {
            bool quoted = scalar.Style is not ScalarStyle.Plain;
            bool nothing = !quoted && IsNothing(scalar.Value);
            node = new ScalarNode
            {
                Origin = origin(start),
                Text = nothing ? null : scalar.Value,
                Quoted = quoted,
            };
        }
        else if (parser.TryConsume<SequenceStart>(out _))
        {
            var list = new ListNode { Origin = origin(start) };
            while (!parser.TryConsume<SequenceEnd>(out _))
                list.Items.Add(Node(depth + 1));
            node = list;
        }
        else
            node = Map(depth);
        if (anchor != "")
            anchors[anchor] = node;
        return node;
    }

    private MapNode Map(int depth)
    {
        var start = parser.Consume<MappingStart>().Start;
        var map = new MapNode { Origin = origin(start) };
        var merged = new List<MapNode.Entry>();
        while (!parser.TryConsume<MappingEnd>(out _))
        {
            var keyStart = parser.Current!.Start;
            if (!parser.TryConsume<Scalar>(out var key))
                throw new YamlException(keyStart, keyStart, "expected a key name");
            var value = Node(depth + 1);
            if (key is { Value: MergeKey, Style: ScalarStyle.Plain })
                Merge(merged, value);
            else if (map.Entries.Find(e => e.Key == key.Value) is { } first)
                problems.Add(new(origin(keyStart), key.Value, $"given twice (first at {first.Origin}); keep one"));
            else
                map.Entries.Add(new(key.Value, origin(keyStart), value));
        }
        map.Entries.AddRange(merged.Where(m => map.Entries.All(e => e.Key != m.Key)));
        return map;
    }

    /// <summary>Adds the entries of a section, or of each in a list, that the sections before it have not.</summary>
    private void Merge(List<MapNode.Entry> merged, RecipeNode value)
    {
        if (value is MapNode section)
            merged.AddRange(section.Entries.Where(e => merged.All(m => m.Key != e.Key)));
        else if (value is ListNode list && list.Items.All(item => item is MapNode))
            foreach (var item in list.Items)
                Merge(merged, item);
        else
            problems.Add(new(value.Origin, MergeKey, $"expected a section, or a list of sections, found {value.Kind}"));
    }
}
