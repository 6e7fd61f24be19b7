using ScottPlot;
using SkiaSharp;

namespace SimpleR1.Training.Runs.Results;

/// <summary>The project's own font: a fresh server has none, and text would silently be missing.</summary>
internal sealed class PlotFont : IFontResolver
{
    private const string Name = "SimpleR1 Plot";

    static PlotFont()
    {
        Fonts.FontResolvers.Add(new PlotFont());
        Fonts.Default = Name;
    }

    private PlotFont() { }

    /// <summary>The font, which is every picture's from the first call on.</summary>
    public static SKTypeface Load() =>
        SKTypeface.FromStream(typeof(PlotFont).Assembly.GetManifestResourceStream("PlotFont.ttf")!);

    public SKTypeface? CreateTypeface(string fontName, FontWeight weight, FontSlant slant, FontSpacing spacing) =>
        fontName == Name ? Load() : null;

    public SKTypeface? CreateTypeface(string fontName, bool bold, bool italic) =>
        CreateTypeface(fontName, FontWeight.Normal, FontSlant.Upright, FontSpacing.Normal);
}
