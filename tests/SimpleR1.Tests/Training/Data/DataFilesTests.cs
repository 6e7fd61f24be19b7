using SimpleR1.Training.Data;
using SimpleR1.Training.Recipes;
using Xunit;

namespace SimpleR1.Tests.Training.Data;

public sealed class DataFilesTests : DataFolder
{
    private void WriteRows(params string[] names)
    {
        foreach (string name in names)
            Write(name, $$"""{"question": "q", "answer": "{{name}}"}""");
    }

    private IEnumerable<string> Answers(string path, string? split = null) =>
        Dataset.Load(new() { Path = Path.Combine(Folder, path), Split = split }).Select(p => p.Answer);

    [Fact]
    public void Patterns_and_folders_are_read_in_the_order_of_their_names()
    {
        WriteRows("d/train-00001-of-00002.jsonl", "d/train-00000-of-00002.jsonl", "d/test-00000-of-00001.jsonl");
        Write("d/README.md", "---");
        Write("d/.cache/x.jsonl", "{}");
        Write("d/dataset_infos.json", "{}");
        string[] train = ["d/train-00000-of-00002.jsonl", "d/train-00001-of-00002.jsonl"];
        Assert.Equal(train, Answers("d/train-*.jsonl"));
        Assert.Equal(train, Answers("**/train-*.jsonl"));
        Assert.Equal(train, Answers("d", "train"));
        Assert.Equal(["d/test-00000-of-00001.jsonl"], Answers("d/", "test"));
    }

    [Fact]
    public void A_folder_of_several_splits_needs_one()
    {
        WriteRows("d/train.jsonl", "d/valid.jsonl");
        Assert.Contains(
            "holds the splits train, validation; say which with split:",
            Refused(Path.Combine(Folder, "d"))
        );
        Assert.Equal(["d/valid.jsonl"], Answers("d", "validation"));
        var source = new DataSource { Path = Path.Combine(Folder, "d"), Split = "tset" };
        Assert.Contains("no files of split 'tset'; there are train, validation", Refused(source));
    }

    [Fact]
    public void A_folder_of_several_subsets_or_formats_is_refused()
    {
        WriteRows("d/main/train.jsonl", "d/socratic/train.jsonl");
        Assert.Contains("several folders (main, socratic)", Refused(Path.Combine(Folder, "d")));
        Assert.Equal(["d/main/train.jsonl"], Answers("d/main"));
        WriteRows("e/train/1.jsonl", "e/train/2.json");
        Assert.Contains("several formats (.jsonl, .json)", Refused(Path.Combine(Folder, "e")));
    }

    [Fact]
    public void Folders_without_data_say_what_they_hold()
    {
        Write("d/data-00000-of-00001.arrow", "ARROW1");
        Assert.Contains(
            "found data-00000-of-00001.arrow (write Arrow files as Parquet",
            Refused(Path.Combine(Folder, "d"))
        );
        Directory.CreateDirectory(Path.Combine(Folder, "empty"));
        Assert.Contains("no data files; expected .jsonl", Refused(Path.Combine(Folder, "empty")));
        Assert.Contains("no data files for 'train-*.parquet'", Refused(Path.Combine(Folder, "d", "train-*.parquet")));
        Assert.Throws<FileNotFoundException>(() => Answers("none/*.jsonl"));
    }

    [Theory]
    [InlineData("x.jsonl", "", "the file is empty")]
    [InlineData("x.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-lfs pointer")]
    [InlineData("x.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git-lfs pointer")]
    [InlineData("x.csv", "\n<!DOCTYPE html><html>", "web page (HTML)")]
    [InlineData("x.parquet", "<html>", "web page (HTML)")]
    [InlineData("x.parquet", "{}", "does not begin with PAR1")]
    [InlineData("x.jsonl", "PAR1", "rename it to .parquet")]
    [InlineData("x.jsonl.gz", "{}", "not compressed by gzip")]
    [InlineData("x.txt", "{}", "its name says no format that is known")]
    public void Files_that_are_not_what_their_name_says_are_called_what_they_are(
        string name,
        string text,
        string message
    )
    {
        string path = Write(name, text);
        string found = Refused(path);
        Assert.StartsWith(path + ": ", found);
        Assert.Contains(message, found);
    }
}
