using System.IO.Compression;
using System.Text;
using System.Text.Json.Nodes;
using CsCheck;
using SimpleR1.Training.Data;
using SimpleR1.Training.Data.Rows;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class JsonRowsTests : DataFolder
{
    private const string Row = """{"question": "q", "answer": "a"}""";

    [Theory]
    [InlineData("1.50")]
    [InlineData("12345678901234567890")]
    [InlineData("145.0")]
    [InlineData("1e3")]
    [InlineData("-0.10")]
    public void Numbers_keep_their_text(string number) =>
        Assert.Equal(
            number,
            Dataset.Load(new() { Path = Write("n.jsonl", $$"""{"question": "q", "answer": {{number}}}""") })[0].Answer
        );

    [Fact]
    public void Lines_may_end_in_either_way_be_blank_and_begin_with_a_byte_order_mark()
    {
        string path = Write("l.jsonl", "\ufeff" + Row + "\r\n\r\n  \n" + Row.Replace("a\"}", "b\"}") + "\r\n");
        var rows = RowReader.Read(path);
        Assert.Equal(["a", "b"], rows.Select(r => (string)r.Values["answer"]!));
        Assert.Equal([$"{path}:1", $"{path}:4"], rows.Select(r => r.Origin));
    }

    [Fact]
    public void Text_that_is_not_utf8_is_refused_with_its_line()
    {
        byte[] latin = [.. Encoding.UTF8.GetBytes(Row + "\n{\"question\": \"caf"), 0xE9, .. "\", \"answer\": 1}"u8];
        string path = Write("latin.jsonl", latin);
        Assert.StartsWith($"{path}:2: not UTF-8: byte 0xE9 after \"{{\"question\": \"caf\"", Refused(path));
        path = Write("csv.csv", [.. "question,answer\n"u8, 0xFF]);
        Assert.StartsWith($"{path}:2: not UTF-8", Refused(path));
        Assert.Contains(
            "UTF-16",
            Refused(Write("wide.jsonl", [.. Encoding.Unicode.Preamble, .. Encoding.Unicode.GetBytes(Row)]))
        );
    }

    [Theory]
    [InlineData("""{"question": "q", "answer": "\ud800 5"}""", "column 'answer'")]
    [InlineData("""{"question": "q", "answer": "5", "m": [{"k": "\udc00"}]}""", "column 'm.0.k'")]
    [InlineData("""{"question": "q", "answer": "5", "\ud800": 1}""", "a name")]
    public void Half_of_a_surrogate_pair_is_refused_with_row_and_column(string row, string place)
    {
        string path = Write("s.jsonl", row);
        Assert.StartsWith($"{path}:1: {place} has half of a surrogate pair", Refused(path));
    }

    [Fact]
    public void A_key_given_twice_is_refused_with_its_line()
    {
        string path = Write("k.jsonl", Row + "\n" + """{"question": "q", "answer": "a", "m": {"x": 1, "x": 2}}""");
        Assert.StartsWith($"{path}:2: not valid JSON", Refused(path));
    }

    [Fact]
    public void NaN_and_infinities_are_null_as_in_every_format()
    {
        string path = Write("n.jsonl", """{"a": NaN, "b": [-Infinity, Infinity, 1], "c": "NaN \" NaN"}""");
        var expected = JsonNode.Parse("""{"a": null, "b": [null, null, 1], "c": "NaN \" NaN"}""");
        Assert.True(JsonNode.DeepEquals(expected, RowReader.Read(path)[0].Values));
    }

    [Fact]
    public void Text_survives_as_it_is() =>
        Gen.String.Sample(
            text =>
            {
                if (text.EnumerateRunes().Any(r => r == Rune.ReplacementChar))
                    return;
                string path = Write("t.jsonl", new JsonObject { ["answer"] = text, ["question"] = "q" }.ToJsonString());
                Assert.Equal(text, (string)RowReader.Read(path)[0].Values["answer"]!);
            },
            iter: 50,
            threads: 1
        );

    [Theory]
    [InlineData("[ROW, ROW]", 2)]
    [InlineData("[\n  ROW\n]", 1)]
    [InlineData("""{"version": "1", "tags": ["x"], "data": [ROW, ROW, ROW]}""", 3)]
    [InlineData("ROW\nROW\n", 2)]
    [InlineData("\ufeff ROW\r\nROW\r\n", 2)]
    public void Documents_hold_an_array_of_rows_or_lines(string text, int rows) =>
        Assert.Equal(rows, RowReader.Read(Write("d.json", text.Replace("ROW", Row))).Count);

    [Theory]
    [InlineData("[ROW,\n 3]", "d.json row 2: expected a JSON object")]
    [InlineData("[ROW,\n ]", "d.json:2: not valid JSON")]
    [InlineData("""{"a": [ROW], "b": [ROW]}""", "found several: 'a', 'b'")]
    [InlineData("""{"question": {"0": "q"}, "answer": {"0": "a"}}""", "orient=\"records\"")]
    [InlineData("3", "found neither an array nor an object")]
    public void Documents_without_one_array_of_rows_are_refused(string text, string message) =>
        Assert.Contains(message, Refused(Write("d.json", text.Replace("ROW", Row))));

    [Fact]
    public void Compressed_text_is_read()
    {
        using var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionLevel.Fastest))
            gzip.Write(Encoding.UTF8.GetBytes(Row + "\n" + Row));
        byte[] whole = bytes.ToArray();
        Assert.Equal(2, RowReader.Read(Write("z.jsonl.gz", whole)).Count);
        Assert.Contains("rename it to .jsonl.gz", Refused(Write("z.jsonl", whole)));
        for (int length = 2; length < whole.Length; length++)
            Assert.Contains("can't be read as jsonl", Refused(Write("cut.jsonl.gz", whole[..length])));
    }
}
