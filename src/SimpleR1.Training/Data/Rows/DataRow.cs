using System.Text.Json.Nodes;

namespace SimpleR1.Training.Data.Rows;

/// <summary>A row of a data file, whatever the file's format.</summary>
/// <param name="File">The file's path.</param>
/// <param name="Place">":12" for a line, " row 12" in files that have no lines.</param>
/// <param name="Values">Columns in the file's order. Every number keeps the text that the file has.</param>
internal sealed record DataRow(string File, string Place, JsonObject Values)
{
    /// <summary>File and place, for messages.</summary>
    public string Origin => File + Place;
}
