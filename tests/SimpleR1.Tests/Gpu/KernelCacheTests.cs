using System.Diagnostics;
using System.Runtime.Versioning;
using SimpleR1.Tensors.Cuda.Libraries;
using Xunit;

namespace SimpleR1.Tests.Gpu;

/// <summary>What is in the cache runs on the GPU: nobody else may have put it there. (These need no GPU.)</summary>
[UnsupportedOSPlatform("windows")]
public sealed class KernelCacheTests : IDisposable
{
    private const UnixFileMode Own = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;

    private readonly string parent = Directory.CreateTempSubdirectory("simple-r1-cache-").FullName;
    private readonly List<string> warnings = [];

    private string Folder => Path.Combine(parent, "kernels");
    private string File => Path.Combine(Folder, "a.cubin");

    public void Dispose() => Directory.Delete(parent, recursive: true);

    private string? PathOf() => KernelCache.PathOf(Folder, "a.cubin", warnings.Add);

    [Fact]
    public void New_folder_is_its_owners_alone_whatever_the_umask_is()
    {
        Assert.Equal(File, PathOf());
        Assert.Equal(Own, System.IO.File.GetUnixFileMode(Folder));
        System.IO.File.WriteAllText(File, "code");
        System.IO.File.SetUnixFileMode(File, Own | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        Assert.Equal(File, PathOf());
        Assert.Empty(warnings);
    }

    [Theory]
    [InlineData(UnixFileMode.GroupWrite, false)]
    [InlineData(UnixFileMode.OtherWrite, false)]
    [InlineData(UnixFileMode.GroupWrite, true)]
    [InlineData(UnixFileMode.OtherWrite, true)]
    public void What_others_may_write_to_is_refused_with_one_warning(UnixFileMode others, bool file)
    {
        Assert.Equal(File, PathOf());
        System.IO.File.WriteAllText(File, "code");
        string open = file ? File : Folder;
        System.IO.File.SetUnixFileMode(open, Own | others);
        Assert.Null(PathOf());
        Assert.Null(PathOf());
        Assert.Contains($"chmod go-w {open}", Assert.Single(warnings));
        System.IO.File.SetUnixFileMode(open, Own);
        Assert.Equal(File, PathOf());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void What_belongs_to_another_user_is_refused(bool file)
    {
        Assert.Equal(File, PathOf());
        System.IO.File.WriteAllText(File, "code");
        string foreign = file ? File : Folder;
        using var chown = Process.Start("chown", ["12345", foreign]);
        chown.WaitForExit();
        Assert.SkipUnless(chown.ExitCode == 0, "only root can give files to another user");
        Assert.Null(PathOf());
        Assert.Contains($"{foreign} belongs to user 12345", Assert.Single(warnings));
    }
}
