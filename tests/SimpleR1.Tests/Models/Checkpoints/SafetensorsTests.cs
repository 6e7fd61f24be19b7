using System.Buffers.Binary;
using System.Text;
using CsCheck;
using SimpleR1.Models;
using SimpleR1.Models.Checkpoints;
using Xunit;

namespace SimpleR1.Tests.Models.Checkpoints;

public sealed unsafe class SafetensorsTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-test").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    private string WriteRaw(string header, int dataBytes, long? claimedLength = null)
    {
        string path = Path.Combine(folder, "raw.safetensors");
        byte[] json = Encoding.UTF8.GetBytes(header);
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, claimedLength ?? json.Length);
        File.WriteAllBytes(path, [.. length, .. json, .. new byte[dataBytes]]);
        return path;
    }

    [Theory]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 4, "truncated")]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 12, "belong to none")]
    [InlineData("""{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", 8, "does not fill")]
    [InlineData(
        """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}""",
        16,
        "twice"
    )]
    [InlineData(
        """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""",
        12,
        "gap or overlap"
    )]
    [InlineData("""{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}""", 12, "gap or overlap")]
    [InlineData("""{"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}}""", 8, "unknown dtype 'Q4'")]
    [InlineData("""{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}""", 8, "too large")]
    [InlineData("""{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}""", 8, "does not fill")]
    [InlineData("""{"a":{"dtype":"F32"}}""", 0, "not valid")]
    [InlineData(""" {"a":1}""", 0, "does not start with '{'")]
    public void Open_of_a_file_that_breaks_a_rule_names_it(string header, int dataBytes, string rule)
    {
        string path = WriteRaw(header, dataBytes);
        string message = Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(path)).Message;
        Assert.Contains(rule, message);
        Assert.StartsWith(path, message);
    }

    [Fact]
    public void Open_of_a_header_longer_than_the_file_or_the_format_allows_fails()
    {
        Assert.Contains(
            "truncated",
            Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(WriteRaw("{}", 0, 1000))).Message
        );
        Assert.Contains(
            "100000000",
            Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(WriteRaw("{}", 0, 100_000_001))).Message
        );
        string empty = Path.Combine(folder, "empty");
        File.WriteAllBytes(empty, []);
        Assert.Contains("empty", Assert.Throws<InvalidDataException>(() => SafetensorsFile.Open(empty)).Message);
    }

    [Fact]
    public void Values_written_and_read_in_each_type_are_the_rounded_values()
    {
        float[] special =
        [
            0,
            -0f,
            1,
            -1,
            1e-40f,
            65504,
            3.14159274f,
            float.PositiveInfinity,
            float.NegativeInfinity,
            float.NaN,
            1 + 1f / 256,
            1 + 3f / 256,
            float.MaxValue,
            float.Epsilon,
        ];
        Gen.Float.Array[1, 400]
            .Sample(
                random =>
                {
                    float[] values = [.. special, .. random];
                    foreach (var type in Enum.GetValues<WeightType>())
                        AssertRounded(values, WriteAndRead(values, type), type);
                },
                iter: 30
            );
    }

    private float[] WriteAndRead(float[] values, WeightType type)
    {
        string path = Path.Combine(folder, $"{Guid.NewGuid():N}.safetensors");
        fixed (float* p = values)
            SafetensorsWriter.Write(path, [new("x", [values.Length], (nint)p)], type);
        var read = new float[values.Length];
        using (var file = SafetensorsFile.Open(path))
            fixed (float* p = read)
                file.Read(file.Entries["x"], p);
        File.Delete(path);
        return read;
    }

    private static void AssertRounded(float[] values, float[] read, WeightType type)
    {
        for (int i = 0; i < values.Length; i++)
        {
            float expected = type switch
            {
                WeightType.F32 => values[i],
                WeightType.F16 => (float)(Half)values[i],
                _ => NearestBFloat16(values[i]),
            };
            Assert.True(expected.Equals(read[i]), $"{type}: {values[i]:R} became {read[i]:R}, expected {expected:R}");
        }
    }

    /// <summary>The nearer of the two bf16 neighbours; on a tie, the one with an even last bit.</summary>
    private static float NearestBFloat16(float value)
    {
        if (!float.IsFinite(value))
            return value;
        uint bits = BitConverter.SingleToUInt32Bits(value) & 0xFFFF0000;
        float below = BitConverter.UInt32BitsToSingle(bits);
        float above = BitConverter.UInt32BitsToSingle(bits + 0x10000);
        double aboveValue = float.IsFinite(above) ? above : Math.CopySign(Math.Pow(2, 128), value);
        double down = Math.Abs((double)value - below);
        double up = Math.Abs(aboveValue - value);
        bool isEven = (bits >> 16 & 1) == 0;
        return down < up || (down == up && isEven) ? below : above;
    }

    [Fact]
    public void Load_lists_every_tensor_that_does_not_fit()
    {
        var config = TinyModels.Config(ModelFamily.Qwen2);
        using var weights = TinyModels.Random(config);
        Checkpoint.Write(folder, weights, WeightType.F32, null);
        string json = File.ReadAllText(Path.Combine(folder, "config.json"));
        File.WriteAllText(
            Path.Combine(folder, "config.json"),
            json.Replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3")
                .Replace("\"intermediate_size\": 40", "\"intermediate_size\": 48")
        );
        string message = Assert.Throws<InvalidDataException>(() => Checkpoint.Load(folder)).Message;
        Assert.Contains(
            "'model.layers.0.mlp.gate_proj.weight': expected shape [48, 24] from config.json, found [40, 24]",
            message
        );
    }

    [Fact]
    public void Load_of_a_folder_without_weights_or_with_a_missing_shard_says_which_file()
    {
        using var weights = TinyModels.Random(TinyModels.Config());
        Checkpoint.Write(folder, weights, WeightType.BF16, null, shardBytes: 4000);
        string shard = Directory.GetFiles(folder, "model-00002-*").Single();
        File.Delete(shard);
        Assert.Contains(shard, Assert.Throws<FileNotFoundException>(() => Checkpoint.Load(folder)).Message);
        Assert.Contains(
            "no such folder",
            Assert.Throws<FileNotFoundException>(() => Checkpoint.Load(Path.Combine(folder, "nowhere"))).Message
        );
    }
}
