using System.Globalization;

namespace SimpleR1.WeightSync.Nccl;

/// <summary>
/// The address in an invitation: which group to join, as which rank of how many. Trainers come first.
/// </summary>
internal sealed record NcclPlace(string Group, int Rank, int Size, byte[] Id)
{
    public override string ToString() =>
        string.Create(CultureInfo.InvariantCulture, $"{Group}/{Rank}/{Size}/{Convert.ToHexString(Id)}");

    /// <exception cref="InvalidDataException">The text is no address of a group.</exception>
    public static NcclPlace Parse(string address)
    {
        if (address.Split('/') is not [var group, var rank, var size, var id])
            throw new InvalidDataException($"'{address}' is no address of an NCCL group");
        return new(
            group,
            int.Parse(rank, CultureInfo.InvariantCulture),
            int.Parse(size, CultureInfo.InvariantCulture),
            Convert.FromHexString(id)
        );
    }
}
