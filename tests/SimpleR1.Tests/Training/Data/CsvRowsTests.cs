using CsCheck;
using SimpleR1.Training.Data;
using SimpleR1.Training.Data.Rows;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class CsvRowsTests : DataFolder
{
    [Theory]
    [InlineData("a.csv", "question,answer\n\"x, \"\"y\"\"\nz\",1.50\n")]
    [InlineData("b.csv", "question;answer\r\n\"x, \"\"y\"\"\nz\";1.50\r\n")]
    [InlineData("c.csv", "\ufeffquestion|answer\n\"x, \"\"y\"\"\nz\"|1.50")]
    [InlineData("d.tsv", "question\tanswer\n\"x, \"\"y\"\"\nz\"\t1.50\n\n")]
    public void Quotes_line_breaks_and_separators_are_read(string name, string text)
    {
        var problem = Dataset.Load(new() { Path = Write(name, text) }).Single();
        Assert.Equal(("x, \"y\"\nz", "1.50"), (problem.Question, problem.Answer));
    }

    [Fact]
    public void Any_text_survives_quoting() =>
        Gen.Char[" ab,;\t\"\n\r|'é"]
            .Array[0, 8]
            .Select(c => new string(c))
            .Array[2]
            .Array[1, 4]
            .Sample(
                rows =>
                {
                    string text = string.Join(
                        "\n",
                        rows.Select(r => string.Join(',', r.Select(Quoted))).Prepend("a,b")
                    );
                    var read = RowReader.Read(Write("q.csv", text));
                    Assert.Equal(rows, read.Select(r => r.Values.Select(v => (string)v.Value!).ToArray()));
                },
                iter: 100,
                threads: 1
            );

    private static string Quoted(string value) => $"\"{value.Replace("\"", "\"\"")}\"";

    [Theory]
    [InlineData("question,answer\nq,1\nq,1,2\n", ":3: 3 values for 2 columns")]
    [InlineData("question,answer\nq,1\nq\n", ":3: 1 values for 2 columns")]
    [InlineData("question,answer\n5\" pipe,1\n", "a quote in the middle of a value")]
    [InlineData("question,answer\n\"open,1\nq,2\n", "not closed")]
    [InlineData("question,question\nq,1\n", ":1: the column 'question' is named twice")]
    [InlineData("question,answer\n", "no rows")]
    public void Broken_records_are_refused_with_their_line(string text, string message)
    {
        string path = Write("x.csv", text);
        string found = Refused(path);
        Assert.StartsWith(path, found);
        Assert.Contains(message, found);
    }

    [Fact]
    public void Rows_know_the_line_that_they_begin_in()
    {
        string path = Write("l.csv", "question,answer\n\"two\nlines\",1\nq,2\n");
        Assert.Equal([$"{path}:2", $"{path}:4"], RowReader.Read(path).Select(r => r.Origin));
    }
}
