using SimpleR1.Tests.Server;
using Xunit;
using static SimpleR1.Tests.Vllm.WeightTransferTests;

namespace SimpleR1.Tests.Vllm;

/// <summary>The calls of vLLM's weight transfer one by one: pauses, wrong calls, and where they are answered.</summary>
public sealed class WeightCallTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Theory, InlineData("abort"), InlineData("wait"), InlineData("keep")]
    public async Task Pause_ends_finishes_or_keeps_what_runs_and_new_requests_wait(string mode)
    {
        await using var server = await StartAsync();
        var running = server.StreamAsync(
            "/v1/completions",
            Endless.Replace("4000", mode == "wait" ? "300" : "3000", StringComparison.Ordinal)
        );
        await TestServer.UntilAsync(() => server.Source.Statistics.Running == 1, () => "the request to run");
        Assert.Equal(
            "paused",
            (await Post(server, $"/pause?mode={mode}&clear_cache=true")).GetProperty("status").GetString()
        );
        Assert.True((await GetAsync(server, "/is_paused")).GetProperty("is_paused").GetBoolean());
        if (mode != "keep")
        {
            var events = await running.WaitAsync(Patience, Token);
            Assert.Equal(
                mode == "abort" ? "abort" : "length",
                events[^1].GetProperty("choices")[0].GetProperty("finish_reason").GetString()
            );
        }
        long steps = server.Source.Statistics.Steps;
        var waiting = server.CompleteAsync("\"prompt\":\"a\",\"max_tokens\":3");
        await GetAsync(server, "/v1/models"); // the rest of the server continues
        Assert.False(waiting.IsCompleted);
        Assert.Equal(steps, server.Source.Statistics.Steps);
        Assert.Equal("resumed", (await Post(server, "/resume")).GetProperty("status").GetString());
        await waiting.WaitAsync(Patience, Token);
        if (mode == "keep")
            Assert.Equal(
                "length",
                (await running.WaitAsync(Patience, Token))[^1]
                    .GetProperty("choices")[0]
                    .GetProperty("finish_reason")
                    .GetString()
            );
        Assert.False((await GetAsync(server, "/is_paused")).GetProperty("is_paused").GetBoolean());
    }

    [Theory]
    [InlineData(400, "/init_weight_transfer_engine", "{}", "init_info: missing")]
    [InlineData(
        400,
        "/init_weight_transfer_engine",
        "{\"init_info\":{\"rank_offset\":1,\"world_size\":2}}",
        "master_address and master_port"
    )]
    [InlineData(
        400,
        "/init_weight_transfer_engine",
        "{\"init_info\":{\"master_address\":\"127.0.0.1\",\"master_port\":1,\"rank_offset\":2,\"world_size\":2}}",
        "expected a rank from 1"
    )]
    [InlineData(
        400,
        "/init_weight_transfer_engine",
        "{\"init_info\":{\"nccl_unique_id_b64\":\"AAAA\",\"rank_offset\":1,\"world_size\":2}}",
        "expected 128 bytes"
    )]
    [InlineData(400, "/init_weight_transfer_engine", "{\"init_info\":{\"world_size\":\"two\"}}", "init_info:")]
    [InlineData(409, "/start_weight_update", "{}", "/init_weight_transfer_engine first")]
    [InlineData(
        409,
        "/update_weights",
        "{\"update_info\":{\"names\":[],\"dtype_names\":[],\"shapes\":[]}}",
        "/start_weight_update first"
    )]
    [InlineData(400, "/update_weights", "{\"update_info\":{}}", "update_info:")]
    [InlineData(409, "/finish_weight_update", "{}", "/start_weight_update first")]
    [InlineData(400, "/finish_weight_update", "{\"weight_version\":\"new\"}", "expected a whole number")]
    [InlineData(400, "/pause?mode=soon", "{}", "expected abort, wait or keep")]
    public async Task Wrong_calls_are_errors_that_say_what_is_missing(int status, string path, string json, string says)
    {
        await using var server = await StartAsync();
        var error = await server.FailAsync(path, json);
        Assert.Equal(status, error.Status);
        Assert.Contains(says, error.Message);
        await server.CompleteAsync("\"prompt\":\"a\""); // it serves on
    }

    [Fact]
    public async Task NCCL_id_is_refused_by_a_server_that_has_only_TCP()
    {
        await using var server = await StartAsync();
        var (status, message, _, _) = await server.FailAsync("/init_weight_transfer_engine", Init(new byte[128]));
        Assert.Equal(409, status);
        Assert.Contains("only TCP", message);
    }

    [Fact]
    public async Task Paths_are_there_only_where_the_server_takes_weights()
    {
        await using var server = await TestServer.StartAsync();
        Assert.Equal(404, (await server.FailAsync("/pause", "{}")).Status);
        await using var taking = await StartAsync();
        Assert.Equal(1, (await GetAsync(taking, "/get_world_size")).GetProperty("world_size").GetInt32());
    }
}
