using System.Buffers.Binary;
using System.Numerics;
using System.Text;

namespace SimpleR1.Training.Runs.Files;

/// <summary>
/// TensorBoard event files: TFRecords (length, masked CRC-32C, data, masked CRC-32C) of <c>Event</c> protocol buffers,
/// as tensorflow/core/util/event.proto and tensorflow/core/lib/io/record_writer.h define them.
/// </summary>
public sealed class TensorBoardWriter : IDisposable
{
    private readonly FileStream file;

    /// <summary>
    /// Starts a new event file in <paramref name="folder"/>. With <paramref name="purgeStep"/> TensorBoard drops what
    /// earlier files hold from that step on.
    /// </summary>
    public TensorBoardWriter(string folder, int? purgeStep = null)
    {
        Directory.CreateDirectory(folder);
        long seconds = DateTimeOffset.UtcNow.ToUnixTimeSeconds();
        for (int i = 0; ; i++)
        {
            string path = Path.Combine(
                folder,
                $"events.out.tfevents.{seconds:D10}.{Environment.MachineName}.{Environment.ProcessId}.{i}"
            );
            if (File.Exists(path))
                continue;
            file = new FileStream(path, FileMode.CreateNew, FileAccess.Write, FileShare.Read);
            break;
        }
        Record(Event(0, e => e.Text(3, "brain.Event:2")));
        if (purgeStep is { } step)
            Record(Event(step, e => e.Message(7, log => log.Varint(1, 1)))); // SessionLog { status: START }
    }

    /// <summary>One value of one metric.</summary>
    public void Scalar(string tag, long step, double value) =>
        Record(
            Event(step, e => e.Message(5, summary => summary.Message(1, v => v.Text(1, tag).Float(2, (float)value))))
        );

    public void Flush() => file.Flush();

    public void Dispose() => file.Dispose();

    private static byte[] Event(long step, Action<Proto> fill)
    {
        var proto = new Proto().Double(1, DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1000.0);
        if (step != 0)
            proto.Varint(2, (ulong)step);
        fill(proto);
        return proto.ToArray();
    }

    private void Record(byte[] data)
    {
        Span<byte> header = stackalloc byte[12];
        BinaryPrimitives.WriteUInt64LittleEndian(header, (ulong)data.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(header[8..], MaskedCrc(header[..8]));
        file.Write(header);
        file.Write(data);
        BinaryPrimitives.WriteUInt32LittleEndian(header, MaskedCrc(data));
        file.Write(header[..4]);
    }

    /// <summary>
    /// CRC-32C, rotated and shifted by a constant so that a checksum of data that holds checksums stays good.
    /// </summary>
    internal static uint MaskedCrc(ReadOnlySpan<byte> data)
    {
        uint crc = ~0u;
        foreach (byte b in data)
            crc = BitOperations.Crc32C(crc, b);
        return BitOperations.RotateRight(~crc, 15) + 0xa282ead8;
    }

    /// <summary>The few protocol buffer fields that events need.</summary>
    private sealed class Proto
    {
        private readonly List<byte> bytes = [];

        public byte[] ToArray() => [.. bytes];

        public Proto Varint(int field, ulong value)
        {
            Raw((ulong)field << 3);
            Raw(value);
            return this;
        }

        public Proto Double(int field, double value)
        {
            Raw(((ulong)field << 3) | 1);
            bytes.AddRange(BitConverter.GetBytes(value));
            return this;
        }

        public Proto Float(int field, float value)
        {
            Raw(((ulong)field << 3) | 5);
            bytes.AddRange(BitConverter.GetBytes(value));
            return this;
        }

        public Proto Text(int field, string value) => Block(field, Encoding.UTF8.GetBytes(value));

        public Proto Message(int field, Action<Proto> fill)
        {
            var inner = new Proto();
            fill(inner);
            return Block(field, inner.ToArray());
        }

        private Proto Block(int field, byte[] content)
        {
            Raw(((ulong)field << 3) | 2);
            Raw((ulong)content.Length);
            bytes.AddRange(content);
            return this;
        }

        private void Raw(ulong value)
        {
            for (; value >= 0x80; value >>= 7)
                bytes.Add((byte)(value | 0x80));
            bytes.Add((byte)value);
        }
    }
}
