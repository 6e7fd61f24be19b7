using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace SimpleR1.Tests.Docs;

/// <summary>The names that the repository's C# declares, and the text of its string literals, read from the sources.</summary>
internal sealed class CodeNames
{
    private readonly HashSet<string> types = [];
    private readonly HashSet<string> members = [];
    private readonly HashSet<(string Type, string Member)> membersOfTypes = [];
    private readonly HashSet<string> namespaces = [];
    private readonly List<string> literals = [];

    public static CodeNames Instance { get; } = new();

    private CodeNames()
    {
        foreach (string folder in (string[])["src", "tests", "benchmarks", "examples", "build", "recipes"])
        foreach (string file in Pages.Files("*.cs", folder))
        {
            string text = File.ReadAllText(Path.Combine(SharedData.RepositoryRoot, file));
            var root = CSharpSyntaxTree.ParseText(text).GetRoot();
            Collect(root);
            if (folder == "src")
                literals.Add(Literals(root));
        }
    }

    /// <summary>Whether a name exists: a type, a member, a namespace's last part, or parts of these joined by dots.</summary>
    public bool Has(string name)
    {
        string[] parts = name.Split('.');

        // Namespaces may precede the type: Training.RecipeTests.
        int first = 0;
        while (first < parts.Length - 1 && namespaces.Contains(parts[first]) && !types.Contains(parts[first]))
            first++;
        string[] rest = parts[first..];
        return rest.Length switch
        {
            1 => types.Contains(rest[0]) || members.Contains(rest[0]) || namespaces.Contains(rest[0]),
            2 => membersOfTypes.Contains((rest[0], rest[1])) || types.Contains(rest[0]) && types.Contains(rest[1]),
            _ => false,
        };
    }

    /// <summary>Whether the sources hold this text in a string; concatenated strings count as one.</summary>
    public bool HasText(string text) => literals.Any(l => l.Contains(text, StringComparison.OrdinalIgnoreCase));

    private void Collect(SyntaxNode root)
    {
        foreach (var node in root.DescendantNodes())
        {
            if (node is BaseNamespaceDeclarationSyntax space)
                namespaces.UnionWith(space.Name.ToString().Split('.'));
            if (node is BaseTypeDeclarationSyntax type)
                types.Add(type.Identifier.Text);
            if (node is DelegateDeclarationSyntax function)
                types.Add(function.Identifier.Text);
            foreach (string name in Declared(node))
            {
                members.Add(name);
                if (node.FirstAncestorOrSelf<BaseTypeDeclarationSyntax>() is { } owner)
                    membersOfTypes.Add((owner.Identifier.Text, name));
            }
        }
    }

    private static IEnumerable<string> Declared(SyntaxNode node) =>
        node switch
        {
            MethodDeclarationSyntax m => [m.Identifier.Text],
            PropertyDeclarationSyntax p => [p.Identifier.Text],
            EventDeclarationSyntax e => [e.Identifier.Text],
            EnumMemberDeclarationSyntax v => [v.Identifier.Text],
            BaseFieldDeclarationSyntax f => f.Declaration.Variables.Select(v => v.Identifier.Text),
            ParameterSyntax { Parent.Parent: RecordDeclarationSyntax } p => [p.Identifier.Text],
            _ => [],
        };

    private static string Literals(SyntaxNode root) =>
        string.Concat(
            root.DescendantTokens()
                .Where(t =>
                    t.Kind()
                        is SyntaxKind.StringLiteralToken
                            or SyntaxKind.InterpolatedStringTextToken
                            or SyntaxKind.SingleLineRawStringLiteralToken
                            or SyntaxKind.MultiLineRawStringLiteralToken
                )
                .Select(t => t.ValueText)
        );
}
