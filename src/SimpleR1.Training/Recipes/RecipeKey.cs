using System.ComponentModel;
using System.Reflection;
using SimpleR1.Training.Recipes.Sections;

namespace SimpleR1.Training.Recipes;

/// <summary>
/// What the binder, the writer and the reference need to know about one key, read from a record's property.
/// </summary>
internal sealed record RecipeKey
{
    private static readonly NullabilityInfoContext Nullability = new();

    public required PropertyInfo Property { get; init; }
    public required string Name { get; init; }

    /// <summary>The property's type; of an <c>int?</c>, int.</summary>
    public required Type Type { get; init; }
    public required bool Nullable { get; init; }
    public required bool Required { get; init; }

    /// <summary>A number or switch that may be left open: auto says so, as leaving the key out does.</summary>
    public bool AcceptsAuto => Nullable && Type.IsPrimitive;
    public required LimitsAttribute? Limits { get; init; }
    public required string Description { get; init; }

    /// <summary>The keys of a section: its settable properties, in the order of the code.</summary>
    public static IReadOnlyList<RecipeKey> Of(Type section)
    {
        lock (Nullability)
            return [.. section.GetProperties().Where(p => p.CanWrite).Select(Of)];
    }

    /// <summary>The key of this name; null where the type is no section, or has none.</summary>
    public static RecipeKey? Find(Type section, string name) =>
        IsSection(section) ? Of(section).FirstOrDefault(k => k.Name == name) : null;

    private static RecipeKey Of(PropertyInfo property)
    {
        var inner = System.Nullable.GetUnderlyingType(property.PropertyType);
        bool isNullableReference =
            !property.PropertyType.IsValueType && Nullability.Create(property).WriteState is NullabilityState.Nullable;
        return new()
        {
            Property = property,
            Name = RecipeNames.Key(property.Name),
            Type = inner ?? property.PropertyType,
            Nullable = inner is not null || isNullableReference,
            Required = IsRequired(property),
            Limits = property.GetCustomAttribute<LimitsAttribute>(),
            Description = property.GetCustomAttribute<DescriptionAttribute>()?.Description ?? "",
        };
    }

    /// <summary>Compares the attribute's name, because ScottPlot has a public type of the same name.</summary>
    private static bool IsRequired(PropertyInfo property) =>
        property.CustomAttributes.Any(a =>
            a.AttributeType.FullName == "System.Runtime.CompilerServices.RequiredMemberAttribute"
        );

    /// <summary>The element type of a <see cref="ValueList{T}"/>, else null.</summary>
    public static Type? Element(Type type) =>
        type.IsGenericType && type.GetGenericTypeDefinition() == typeof(ValueList<>)
            ? type.GetGenericArguments()[0]
            : null;

    /// <summary>The key that a list in place of the section sets, or null; see <see cref="BareListAttribute"/>.</summary>
    public static RecipeKey? BareList(Type section) =>
        section.GetCustomAttribute<BareListAttribute>() is { } bare
            ? Of(section).Single(k => k.Property.Name == bare.Property)
            : null;

    /// <summary>
    /// The key that a text in place of a section of the list sets, or null where it is no such list; see
    /// <see cref="BareNameAttribute"/>.
    /// </summary>
    public static RecipeKey? BareName(Type list) =>
        Element(list) is { } section && section.GetCustomAttribute<BareNameAttribute>() is { } bare
            ? Of(section).Single(k => k.Property.Name == bare.Property)
            : null;

    /// <summary>True for a nested record with keys of its own.</summary>
    public static bool IsSection(Type type) =>
        type.IsClass
        && type != typeof(string)
        && type != typeof(TemplateOptions)
        && Element(type) is null
        && !RecipeNames.IsChoice(type);
}
