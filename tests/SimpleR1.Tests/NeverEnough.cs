namespace SimpleR1.Tests;

/// <summary>For calls that must complete every sample.</summary>
internal static class NeverEnough
{
    public static CancellationToken Token => CancellationToken.None;
}
