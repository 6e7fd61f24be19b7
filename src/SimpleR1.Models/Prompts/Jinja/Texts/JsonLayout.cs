namespace SimpleR1.Models.Prompts.Jinja.Texts;

/// <summary>How json.dumps writes: its keyword arguments.</summary>
/// <param name="Indent">What one level is indented by; null writes one line.</param>
internal sealed record JsonLayout(
    string? Indent,
    string ItemSeparator,
    string KeySeparator,
    bool SortKeys = false,
    bool EnsureAscii = false
);
