using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using CsCheck;
using Parquet;
using Parquet.Schema;
using Parquet.Serialization;
using SimpleR1.Training.Data;
using SimpleR1.Training.Data.Rows;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class ParquetRowsTests : DataFolder
{
    [Theory]
    [InlineData("nested_snappy.parquet")]
    [InlineData("nested_gzip.parquet")]
    [InlineData("nested_zstd.parquet")]
    [InlineData("nested_v2.parquet")]
    public void Nested_columns_equal_the_jsonl(string name)
    {
        var expected = RowReader.Read(Committed("nested.jsonl"));
        var found = RowReader.Read(Committed(name));
        Assert.Equal(expected.Select(r => r.Values.ToJsonString()), found.Select(r => r.Values.ToJsonString()));
    }

    [Fact]
    public void Every_type_has_a_text()
    {
        var rows = RowReader.Read(Committed("scalars.parquet"));
        Assert.All(rows[1].Values, value => Assert.Null(value.Value));
        const string First = """
            {"b":true,"i8":1,"i16":2,"i32":3,"i64":4,"u8":5,"u16":6,"u32":7,"u64":18446744073709551615,"f32":1.5,
            "f64":145.0,"dec":1.50,"bigdec":12345678901234567890.12345,"d":"2024-01-31","t":"12:34:56",
            "ts":"2024-01-31T12:34:56.789","tstz":"2024-01-31T12:34:56Z","uu":"8f14e45f-ceea-467f-a0e6-0123456789ab",
            "bin":"YWJj","en":"sad","dec1":0.1,"iv":"P0M3DT0S","js":{"a":1},"tsns":"2024-01-31T12:34:56.7891234"}
            """;
        Assert.Equal(First.ReplaceLineEndings(""), rows[0].Values.ToJsonString(Plain));
        const string Third = """
            {"b":false,"i8":-1,"i16":-2,"i32":-3,"i64":-4,"u8":0,"u16":0,"u32":0,"u64":0,"f32":null,"f64":null,
            "dec":-1.50,"bigdec":-0.50000,"d":"1969-12-31","t":"00:00:00","ts":"1969-12-31T23:59:59",
            "tstz":"2024-01-31T10:34:56Z","uu":"00000000-0000-0000-0000-000000000001","bin":"/wA=","en":"ok","dec1":10.0,
            "iv":"P1M0DT0S","js":[1],"tsns":"2024-01-31T12:34:56"}
            """;
        Assert.Equal(Third.ReplaceLineEndings(""), rows[2].Values.ToJsonString(Plain));
        Assert.Equal(
            """["1E+20",1E+300]""",
            new JsonArray($"{rows[3].Values["f32"]}", rows[3].Values["f64"]!.DeepClone()).ToJsonString(Plain)
        );
    }

    private static readonly JsonSerializerOptions Plain = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        TypeInfoResolver = new DefaultJsonTypeInfoResolver(),
    };

    [Fact]
    public void Lists_of_text_and_messages_are_read()
    {
        Assert.Equal(
            """["tag one","b"]""",
            RowReader.Read(Committed("tags.parquet"))[0].Values["tags"]!.ToJsonString()
        );
        Assert.Equal(
            """[{"role":"user","content":"x"}]""",
            RowReader.Read(Committed("messages.parquet"))[3].Values["messages"]!.ToJsonString()
        );
    }

    [Fact]
    public void Row_groups_and_dictionaries_are_read_in_order()
    {
        var rows = RowReader.Read(Committed("groups.parquet"));
        Assert.Equal(5000, rows.Count);
        for (int i = 0; i < rows.Count; i++)
        {
            string word = i % 3 == 0 ? "null" : $"\"word {i % 5}\"";
            string list = i % 1000 == 0 ? $"[\"t{i % 7}\"]" : "[]";
            Assert.Equal($"{{\"id\":{i},\"dict\":{word},\"l\":{list}}}", rows[i].Values.ToJsonString());
        }
        Assert.EndsWith("groups.parquet row 5000", rows[^1].Origin);
    }

    [Fact]
    public async Task Values_that_are_repeated_without_a_list_around_are_lists()
    {
        var stop = TestContext.Current.CancellationToken;
        var id = new DataField<int>("id");
        var repeated = new DataField("xs", typeof(int), isNullable: false, isArray: true);
        string path = Path.Combine(Folder, "repeated.parquet");
        await using (var file = File.Create(path))
        await using (var writer = await ParquetWriter.CreateAsync(new(id, repeated), file, cancellationToken: stop))
        {
            using var group = writer.CreateRowGroup();
            await group.WriteAsync<int>(id, new[] { 1, 2 }, cancellationToken: stop);
            await group.WriteAsync<int>(repeated, new[] { 1, 2, 3 }, new[] { 0, 1, 0 }, cancellationToken: stop);
        }
        Assert.Equal(
            ["""{"id":1,"xs":[1,2]}""", """{"id":2,"xs":[3]}"""],
            RowReader.Read(path).Select(r => r.Values.ToJsonString())
        );
    }

    public sealed class Message
    {
        public string? Role { get; set; }
        public List<double>? Scores { get; set; }
    }

    public sealed class Sample
    {
        public int Id { get; set; }
        public string? Text { get; set; }
        public long? Big { get; set; }
        public double? Real { get; set; }
        public bool Flag { get; set; }
        public List<string>? Tags { get; set; }
        public List<Message>? Messages { get; set; }
        public List<List<int>>? Matrix { get; set; }
        public Dictionary<string, int>? Map { get; set; }
        public Message? One { get; set; }
    }

    private static readonly Gen<string> Text = Gen.Char["ab é\"\n{["].Array[0, 5].Select(c => new string(c));

    private static readonly Gen<Message> Messages =
        from role in Text.Null()
        from scores in Gen.Double[-1e6, 1e6].List[0, 3].Null()
        select new Message { Role = role, Scores = scores };

    private static readonly Gen<Sample> Samples =
        from scalars in Gen.Select(Gen.Int, Text.Null(), Gen.Long.Nullable(), Gen.Double[-1, 1].Nullable(), Gen.Bool)
        from tags in Text.List[0, 3].Null()
        from messages in Messages.List[0, 3].Null()
        from matrix in Gen.Int.List[0, 3].List[0, 3].Null()
        from map in Gen.Dictionary(Text, Gen.Int)[0, 3].Null()
        from one in Messages.Null()
        select new Sample
        {
            Id = scalars.Item1,
            Text = scalars.Item2,
            Big = scalars.Item3,
            Real = scalars.Item4,
            Flag = scalars.Item5,
            Tags = tags,
            Messages = messages,
            Matrix = matrix,
            Map = map,
            One = one,
        };

    [Fact]
    public Task Random_rows_equal_the_same_rows_in_jsonl() =>
        Samples
            .List[1, 12]
            .Select(Gen.Int[1, 5])
            .SampleAsync(
                async (samples, groupSize) =>
                {
                    var options = new ParquetOptions
                    {
                        RowGroupSize = groupSize,
                        CompressionMethod = CompressionMethod.Zstd,
                    };
                    string parquet = Path.Combine(Folder, "r.parquet");
                    File.Delete(parquet);
                    await ParquetSerializer.SerializeAsync(samples, parquet, options);
                    string jsonl = Write(
                        "r.jsonl",
                        string.Join("\n", samples.Select(s => JsonSerializer.Serialize(s)))
                    );
                    var expected = RowReader.Read(jsonl);
                    var found = RowReader.Read(parquet);
                    Assert.Equal(expected.Count, found.Count);
                    for (int i = 0; i < found.Count; i++)
                        Assert.True(
                            JsonNode.DeepEquals(expected[i].Values, found[i].Values),
                            $"{expected[i].Values.ToJsonString()}\n{found[i].Values.ToJsonString()}"
                        );
                },
                iter: 60,
                threads: 1
            );

    [Fact]
    public async Task A_null_in_the_first_row_is_a_row_without_an_answer()
    {
        string path = Path.Combine(Folder, "null.parquet");
        var rows = new[]
        {
            new Sample { Text = null, Big = 1 },
            new Sample { Text = "q", Big = 2 },
        };
        await ParquetSerializer.SerializeAsync(rows, path, cancellationToken: TestContext.Current.CancellationToken);
        var log = new List<string>();
        var source = new SimpleR1.Training.Recipes.DataSource
        {
            Path = path,
            Columns = new() { Question = "Id", Answer = "Text" },
        };
        Assert.Equal("q", Dataset.Load(source, log.Add).Single().Answer);
        Assert.Equal($"{path}: 1 of 2 rows can't be used: no answer in {path} row 1; they are left out", log.Single());
    }

    [Fact]
    public void Damaged_files_are_refused_by_name()
    {
        byte[] good = File.ReadAllBytes(Committed("nested_zstd.parquet"));
        Gen.Select(Gen.Int[4, good.Length - 1], Gen.Byte, Gen.Bool)
            .Sample(
                (at, value, isCut) =>
                {
                    byte[] bad = isCut ? good[..at] : [.. good];
                    if (!isCut)
                        bad[at] = value;
                    string path = Write("bad.parquet", bad);
                    try
                    {
                        RowReader.Read(path);
                    }
                    catch (InvalidDataException e)
                    {
                        Assert.StartsWith(path, e.Message);
                    }
                },
                iter: 200,
                threads: 1
            );
    }
}
