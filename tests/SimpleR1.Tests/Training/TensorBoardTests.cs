using System.Buffers.Binary;
using System.Text;
using SimpleR1.Training.Runs.Files;
using Xunit;

namespace SimpleR1.Tests.Training;

/// <summary>Event files through an independent reader of TFRecords and the few proto fields, with a bitwise CRC-32C.</summary>
public sealed class TensorBoardTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("simple-r1-runs-").FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void TensorBoard_events_are_records_with_good_checksums_and_the_values_written()
    {
        string events = Path.Combine(folder, "events");
        using (var writer = new TensorBoardWriter(events))
            for (int step = 0; step < 300; step += 100)
                writer.Scalar("train/reward", step, step / 7.0);
        using (new TensorBoardWriter(events, purgeStep: 200)) { }
        var files = Directory.GetFiles(events).Order().ToArray();
        Assert.Equal(2, files.Length);
        Assert.All(files, f => Assert.StartsWith("events.out.tfevents.", Path.GetFileName(f)));
        var records = Records(files[0]);
        Assert.Equal(4, records.Count);
        Assert.Contains("brain.Event:2", Encoding.UTF8.GetString(records[0]));
        for (int i = 0; i < 3; i++)
        {
            var fields = Fields(records[i + 1]);
            Assert.Equal((ulong)(100 * i), fields.Where(f => f.Field == 2).Select(f => f.Number).SingleOrDefault());
            var value = Fields(Fields(fields.Single(f => f.Field == 5).Bytes).Single().Bytes);
            Assert.Equal("train/reward", Encoding.UTF8.GetString(value.Single(f => f.Field == 1).Bytes));
            Assert.Equal((float)(100 * i / 7.0), BitConverter.ToSingle(value.Single(f => f.Field == 2).Bytes));
        }
        Assert.Equal(1ul, Fields(Fields(Records(files[1])[1]).Single(f => f.Field == 7).Bytes).Single().Number); // SessionLog.START
        Assert.Equal(0xE3069283, Crc("123456789"u8)); // the check value of CRC-32C itself
    }

    private static List<byte[]> Records(string path)
    {
        byte[] all = File.ReadAllBytes(path);
        var records = new List<byte[]>();
        for (int at = 0; at < all.Length; )
        {
            int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(all.AsSpan(at));
            Assert.Equal(Masked(all.AsSpan(at, 8)), BinaryPrimitives.ReadUInt32LittleEndian(all.AsSpan(at + 8)));
            Assert.Equal(
                Masked(all.AsSpan(at + 12, length)),
                BinaryPrimitives.ReadUInt32LittleEndian(all.AsSpan(at + 12 + length))
            );
            records.Add(all[(at + 12)..(at + 12 + length)]);
            at += 16 + length;
        }
        return records;
    }

    private static List<(int Field, ulong Number, byte[] Bytes)> Fields(byte[] message)
    {
        var fields = new List<(int, ulong, byte[])>();
        int at = 0;
        while (at < message.Length)
        {
            ulong tag = Varint();
            int size = (tag & 7) switch
            {
                1 => 8,
                5 => 4,
                2 => (int)Varint(),
                _ => 0,
            };
            if ((tag & 7) == 0)
                fields.Add(((int)(tag >> 3), Varint(), []));
            else
                fields.Add(((int)(tag >> 3), 0, message[at..(at += size)]));
        }
        return fields;

        ulong Varint()
        {
            ulong value = 0;
            for (int shift = 0; ; shift += 7)
            {
                byte b = message[at++];
                value |= (ulong)(b & 0x7f) << shift;
                if (b < 0x80)
                    return value;
            }
        }
    }

    private static uint Masked(ReadOnlySpan<byte> data)
    {
        uint crc = Crc(data);
        return ((crc >> 15) | (crc << 17)) + 0xa282ead8;
    }

    private static uint Crc(ReadOnlySpan<byte> data)
    {
        uint crc = ~0u;
        foreach (byte b in data)
        {
            crc ^= b;
            for (int bit = 0; bit < 8; bit++)
                crc = (crc & 1) == 1 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
        }
        return ~crc;
    }
}
