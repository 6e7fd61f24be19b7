using System;
using System.IO;
using System.Text;
using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

/// <summary>
/// Makes TorchSharp's native shim load on systems whose libstdc++ is older than GCC 13's (Debian 12, Ubuntu 22.04).
/// The shim asks for symbol version GLIBCXX_3.4.32 only through <c>std::ios_base_library_init</c>, which GCC 13's
/// &lt;iostream&gt; names without ever calling it. Marking that one ELF version record "weak" lets the loader continue.
/// Does nothing if the system's own libstdc++ has the version, unless Always is set (a bundle built for other systems).
/// </summary>
public sealed class WeakenGlibcxx : Task
{
    private const string VersionName = "GLIBCXX_3.4.32";
    private const uint SectionVersionNeeded = 0x6ffffffe; // SHT_GNU_verneed
    private const byte FlagWeak = 2; // VER_FLG_WEAK

    [Required]
    public string Library { get; set; } = "";
    public bool Always { get; set; }

    public override bool Execute()
    {
        if (!File.Exists(Library))
            return true;
        if (!Always && SystemHasVersion())
            return true;
        byte[] elf = File.ReadAllBytes(Library);
        int changed = Weaken(elf);
        if (changed == 0)
            return true;
        string temporary = Library + ".weak.tmp";
        File.WriteAllBytes(temporary, elf);
        File.Delete(Library);
        File.Move(temporary, Library);
        Log.LogMessage(
            MessageImportance.Normal,
            $"{Library}: {VersionName} marked weak (this system's libstdc++ is older)"
        );
        return true;
    }

    private static bool SystemHasVersion()
    {
        foreach (
            string folder in new[]
            {
                "/usr/lib/x86_64-linux-gnu",
                "/lib/x86_64-linux-gnu",
                "/usr/lib64",
                "/lib64",
                "/usr/lib",
            }
        )
        {
            string path = Path.Combine(folder, "libstdc++.so.6");
            if (File.Exists(path))
                return Encoding.ASCII.GetString(File.ReadAllBytes(path)).Contains(VersionName);
        }
        return false;
    }

    /// <summary>
    /// Sets the weak flag of every requirement of the version that is not weak yet; returns how many it changed.
    /// </summary>
    private static int Weaken(byte[] elf)
    {
        int changed = 0;
        long sections = (long)BitConverter.ToUInt64(elf, 0x28);
        int sectionSize = BitConverter.ToUInt16(elf, 0x3A);
        int sectionCount = BitConverter.ToUInt16(elf, 0x3C);
        for (int i = 0; i < sectionCount; i++)
        {
            int section = (int)(sections + (long)i * sectionSize);
            if (BitConverter.ToUInt32(elf, section + 4) != SectionVersionNeeded)
                continue;
            int need = (int)BitConverter.ToUInt64(elf, section + 0x18);
            int link = (int)BitConverter.ToUInt32(elf, section + 0x28);
            uint needCount = BitConverter.ToUInt32(elf, section + 0x2C);
            int strings = (int)BitConverter.ToUInt64(elf, (int)(sections + (long)link * sectionSize) + 0x18);
            for (uint n = 0; n < needCount; n++)
            {
                changed += WeakenNeed(elf, need, strings);
                need += (int)BitConverter.ToUInt32(elf, need + 12);
            }
        }
        return changed;
    }

    /// <param name="need">Where the requirements of one library are (Elf64_Verneed).</param>
    /// <param name="strings">Where the names are.</param>
    private static int WeakenNeed(byte[] elf, int need, int strings)
    {
        int changed = 0;
        int auxiliaryCount = BitConverter.ToUInt16(elf, need + 2);
        int auxiliary = need + (int)BitConverter.ToUInt32(elf, need + 8); // Elf64_Vernaux
        for (int a = 0; a < auxiliaryCount; a++)
        {
            int start = strings + (int)BitConverter.ToUInt32(elf, auxiliary + 8);
            int end = Array.IndexOf(elf, (byte)0, start);
            bool isVersion = Encoding.ASCII.GetString(elf, start, end - start) == VersionName;
            if (isVersion && (elf[auxiliary + 4] & FlagWeak) == 0)
            {
                elf[auxiliary + 4] |= FlagWeak;
                changed++;
            }
            auxiliary += (int)BitConverter.ToUInt32(elf, auxiliary + 12);
        }
        return changed;
    }
}
