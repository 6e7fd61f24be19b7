namespace SimpleR1.Vllm.Rendezvous;

/// <summary>The queries of PyTorch's TCPStore, by their byte on the wire.</summary>
internal enum TcpStoreQuery : byte
{
    Validate,
    Set,
    CompareSet,
    Get,
    Add,
    Check,
    Wait,
    GetNumKeys,
    DeleteKey,
    Append,
    MultiGet,
    MultiSet,
    CancelWait,
    Ping,
}

/// <summary>What both ends of a TCPStore connection know.</summary>
internal static class TcpStoreWire
{
    public const uint Magic = 0x3C85F7CE;

    /// <summary>Precedes all keys of users.</summary>
    public const string KeyPrefix = "/";

    /// <summary>Counts the processes that have connected.</summary>
    public const string JoinedKey = "init/";

    public const int MaxValueBytes = 1 << 20;
}
