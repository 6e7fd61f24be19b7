namespace SimpleR1.Inference.Cuda;

/// <summary>What attention reads of the step that is computed next. An <c>nint</c> is a device address.</summary>
internal readonly record struct CudaAttentionStep
{
    /// <summary>[tokens]: the slot of every token's sequence; −1 is padding.</summary>
    public required nint Slots { get; init; }

    /// <summary>Block tables, by slot.</summary>
    public required DeviceTable BlockTables { get; init; }

    /// <summary>paged_decode's plan; its rows are the first rows, one token each.</summary>
    public required nint Plan { get; init; }

    /// <summary>[decoding rows + 1]: tiles of the rows before each row, for paged_decode.</summary>
    public required nint TilesBefore { get; init; }

    /// <summary>[decoding rows]: their slots.</summary>
    public required nint DecodeSlots { get; init; }

    /// <summary>[decoding rows]: the position of each row's token.</summary>
    public required nint DecodePositions { get; init; }

    /// <summary>Some rows decode.</summary>
    public required bool Decodes { get; init; }

    /// <summary>[items] of paged_prefill: {first row, tokens, position of the first, slot}.</summary>
    public nint Items { get; init; }

    /// <summary>Number of <see cref="Items"/>.</summary>
    public int ItemCount { get; init; }
}
