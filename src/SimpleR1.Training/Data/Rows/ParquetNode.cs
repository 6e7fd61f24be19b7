using System.Text.Json.Nodes;
using Parquet;
using Parquet.Schema;

namespace SimpleR1.Training.Data.Rows;

/// <summary>
/// A column, or a nested part of one, that is read value by value. Parquet stores only the leaves of nested values, each
/// entry with a definition level (how much of the path is there) and a repetition level (which list goes on); see
/// "Dremel: Interactive Analysis of Web-Scale Datasets" (Melnik et al. 2010).
/// </summary>
internal abstract class ParquetNode
{
    /// <summary>The leaf whose levels say whether this node's value is null, and where its lists end.</summary>
    public abstract ParquetColumn First { get; }
    public bool IsAtEnd => First.IsAtEnd;

    /// <summary>The next value, which all leaves advance over.</summary>
    public abstract JsonNode? Read();

    /// <summary>Advances all leaves over one entry: a null or an empty list.</summary>
    public abstract void Skip();

    /// <exception cref="InvalidDataException">A leaf has a type that can't be read.</exception>
    public static async Task<ParquetNode> OpenAsync(Field field, ParquetRowGroupReader group, string path)
    {
        switch (field)
        {
            case DataField leaf:
                var column = await ParquetColumn.OpenAsync(leaf, group, path);
                return leaf.IsArray ? new ParquetList(leaf, column) : column;
            case StructField record:
                var members = new List<(string, ParquetNode)>();
                foreach (var member in record.Fields)
                    members.Add((member.Name, await OpenAsync(member, group, path)));
                return new ParquetStruct(record, members);
            case ListField list:
                return new ParquetList(list, await OpenAsync(list.Item, group, path));
            case MapField map:
                var key = await OpenAsync(map.Key, group, path);
                return new ParquetMap(map, key, await OpenAsync(map.Value, group, path), path);
            default:
                throw new InvalidDataException(
                    $"{path}: column '{field.Path}' has the unknown type {field.SchemaType}"
                );
        }
    }
}

/// <summary>A record → an object, or null.</summary>
internal sealed class ParquetStruct(StructField field, List<(string Name, ParquetNode Node)> members) : ParquetNode
{
    public override ParquetColumn First => members[0].Node.First;

    public override JsonNode? Read()
    {
        if (First.Definition < field.MaxDefinitionLevel)
        {
            Skip();
            return null;
        }
        var value = new JsonObject();
        foreach (var (name, node) in members)
            value.Add(name, node.Read());
        return value;
    }

    public override void Skip() => members.ForEach(m => m.Node.Skip());
}

/// <summary>A list → an array, or null.</summary>
/// <param name="field">A list, or a leaf that is repeated without a list around it.</param>
internal sealed class ParquetList(Field field, ParquetNode item) : ParquetNode
{
    public override ParquetColumn First => item.First;

    public override JsonNode? Read()
    {
        if (First.Definition < field.MaxDefinitionLevel)
        {
            bool isEmpty = field is DataField || First.Definition == field.MaxDefinitionLevel - 1;
            Skip();
            return isEmpty ? new JsonArray() : null;
        }
        var value = new JsonArray();
        do value.Add(item.Read());
        while (First.Repetition == field.MaxRepetitionLevel);
        return value;
    }

    public override void Skip() => item.Skip();
}

/// <summary>A map → an object with its keys as text, or null.</summary>
internal sealed class ParquetMap(MapField field, ParquetNode key, ParquetNode value, string path) : ParquetNode
{
    public override ParquetColumn First => key.First;

    public override JsonNode? Read()
    {
        if (First.Definition < field.MaxDefinitionLevel)
        {
            bool isEmpty = First.Definition == field.MaxDefinitionLevel - 1;
            Skip();
            return isEmpty ? new JsonObject() : null;
        }
        var map = new JsonObject();
        do
        {
            string name = key.Read()?.ToString() ?? "";
            if (!map.TryAdd(name, value.Read()))
                throw new InvalidDataException($"{path}: a map in column '{field.Name}' has the key '{name}' twice");
        } while (First.Repetition == field.MaxRepetitionLevel);
        return map;
    }

    public override void Skip()
    {
        key.Skip();
        value.Skip();
    }
}
