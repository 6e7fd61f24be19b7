using System.Diagnostics;
using SimpleR1.Tensors;
using Xunit;

namespace SimpleR1.Tests.Tensors;

public sealed class RepairedTorchSharpTests
{
    [Fact]
    public void Finalizer_as_published_is_refused_with_the_fix_and_the_repaired_one_is_taken()
    {
        byte[] published = [0x02, 0x16, 0x28, 0x8C, 0x0E, 0x00, 0x06, 0xDE, 0x07, 0x02, 0x28, 0x15, 0x00, 0x00, 0x0A];
        var refused = Assert.Throws<InvalidOperationException>(() =>
            RepairedTorchSharp.Require(published, "/x/TorchSharp.dll")
        );
        Assert.StartsWith("/x/TorchSharp.dll is TorchSharp as it is published", refused.Message);
        Assert.Contains("SimpleR1.Tensors.targets", refused.Message);
        published.AsSpan(0, 7).Clear();
        RepairedTorchSharp.Require(published, "");
        RepairedTorchSharp.Require(); // the one that runs these tests
    }

    /// <summary>A program outside of the repository, with nothing of its Directory.Build files. Takes about a minute.</summary>
    [Fact]
    [Trait("Category", "Consumer")]
    public async Task Program_elsewhere_that_references_the_project_gets_the_repairs()
    {
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("SIMPLE_R1_TEST_CONSUMER") == "1",
            "builds a project outside of the repository; set SIMPLE_R1_TEST_CONSUMER=1, as .ci/run does"
        );
        string folder = Directory.CreateTempSubdirectory("simple-r1-consumer-").FullName;
        try
        {
            string reference = Path.Combine(
                SharedData.RepositoryRoot,
                "src/SimpleR1.Training/SimpleR1.Training.csproj"
            );
            await File.WriteAllTextAsync(
                Path.Combine(folder, "consumer.csproj"),
                $"""
                <Project Sdk="Microsoft.NET.Sdk">
                  <PropertyGroup>
                    <OutputType>Exe</OutputType>
                    <TargetFramework>net10.0</TargetFramework>
                  </PropertyGroup>
                  <ItemGroup>
                    <ProjectReference Include="{reference}" />
                  </ItemGroup>
                </Project>
                """,
                TestContext.Current.CancellationToken
            );
            await File.WriteAllTextAsync(
                Path.Combine(folder, "Program.cs"),
                """
                using static TorchSharp.torch;
                SimpleR1.Tensors.NativeMemoryTuning.Apply();
                System.Console.WriteLine($"sum {ones(2, 3).sum().item<float>()}");
                """,
                TestContext.Current.CancellationToken
            );
            var (code, output) = await DotnetAsync(folder, "run", "-c", "Release");
            Assert.True(code == 0, output);
            Assert.Contains("sum 6", output);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<(int Code, string Output)> DotnetAsync(string folder, params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo("dotnet", arguments)
            {
                WorkingDirectory = folder,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        var errors = process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, output + await errors);
    }
}
