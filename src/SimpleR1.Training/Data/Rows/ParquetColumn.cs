using System.Text.Json.Nodes;
using Parquet;
using Parquet.Data;
using Parquet.Schema;

namespace SimpleR1.Training.Data.Rows;

/// <summary>A leaf of a Parquet row group: its entries one after the other, each with its levels.</summary>
internal sealed class ParquetColumn : ParquetNode
{
    private readonly int maxDefinition;
    private readonly int[]? definitions; // null: every entry has a value
    private readonly int[]? repetitions; // null: no list is around
    private readonly JsonNode?[] values; // only of entries that have one
    private readonly int entries;
    private int entry;
    private int taken;

    private ParquetColumn(DataField field, RawColumnData data, JsonNode?[] values)
    {
        maxDefinition = field.MaxDefinitionLevel;
        definitions = field.MaxDefinitionLevel > 0 ? data.DefinitionLevels.ToArray() : null;
        repetitions = field.MaxRepetitionLevel > 0 ? data.RepetitionLevels.ToArray() : null;
        this.values = values;
        entries = definitions?.Length ?? values.Length;
    }

    public override ParquetColumn First => this;
    public new bool IsAtEnd => entry >= entries;

    /// <summary>Definition level of the next entry; -1 after the last.</summary>
    public int Definition => IsAtEnd ? -1 : definitions?[entry] ?? maxDefinition;

    /// <summary>Repetition level of the next entry; -1 after the last.</summary>
    public int Repetition => IsAtEnd ? -1 : repetitions?[entry] ?? 0;

    /// <exception cref="InvalidDataException">Its type can't be read.</exception>
    public static async Task<ParquetColumn> OpenAsync(DataField field, ParquetRowGroupReader group, string path)
    {
        try
        {
            using var data = await group.ReadRawColumnDataBaseAsync(field);
            int defined = 0;
            if (field.MaxDefinitionLevel > 0)
                defined = data.DefinitionLevels.Count(field.MaxDefinitionLevel);
            return new(field, data, ParquetValues.Convert(data, field, field.MaxDefinitionLevel > 0 ? defined : null));
        }
        catch (Exception e)
        {
            throw new InvalidDataException(
                $"{path}: column '{field.Path}' ({field.ClrType.Name}) can't be read: {e.Message}",
                e
            );
        }
    }

    public override JsonNode? Read()
    {
        if (IsAtEnd)
            throw new InvalidDataException("a column ends before the others");
        bool hasValue = Definition == maxDefinition;
        entry++;
        return hasValue ? values[taken++] : null;
    }

    public override void Skip() => entry++;
}
