using Microsoft.CodeAnalysis;
using Microsoft.CodeAnalysis.CSharp;
using Microsoft.CodeAnalysis.CSharp.Syntax;

namespace SimpleR1.Tests.Style;

/// <summary>One place where a file breaks a rule of the house.</summary>
/// <param name="Rule">A short name, such as "long line".</param>
/// <param name="Detail">What was found and what is allowed.</param>
internal sealed record Violation(string Rule, string File, int Line, string Detail)
{
    public override string ToString() => $"{File}:{Line}: {Rule}: {Detail}";
}

/// <summary>The rules of CONTRIBUTING.md that a program can check.</summary>
internal static class StyleRules
{
    public const int LineLimit = 140;
    public const int LineAim = 120;
    public const int FileLimit = 16_000;
    public const int MethodLimit = 1_600;
    public const int ParameterLimit = 5;

    /// <summary>Lines of any text file: code, kernels, scripts, pages.</summary>
    public static IEnumerable<Violation> LongLines(string file, string text)
    {
        string[] lines = text.Split('\n');
        for (int i = 0; i < lines.Length; i++)
        {
            if (lines[i].Length > LineLimit && !IsExempt(file, lines[i]))
                yield return new("long line", file, i + 1, $"{lines[i].Length} characters; the limit is {LineLimit}");
        }
    }

    /// <summary>All rules for a C# file but the length of its lines.</summary>
    public static IEnumerable<Violation> CSharp(string file, string text)
    {
        var root = CSharpSyntaxTree.ParseText(text).GetRoot();
        return FileSize(file, text)
            .Concat(MethodSizes(file, root))
            .Concat(Parameters(file, root))
            .Concat(Statements(file, root))
            .Concat(Puzzles(file, root));
    }

    /// <summary>Characters of a method without the indentation of its lines: what a reader's eye covers.</summary>
    public static int Size(SyntaxNode node) => node.ToString().Split('\n').Sum(line => line.Trim().Length);

    /// <summary>The name by which an exception to the size limit is listed: Type.Method.</summary>
    public static string Name(SyntaxNode method)
    {
        string type = method.FirstAncestorOrSelf<TypeDeclarationSyntax>()?.Identifier.Text ?? "program";
        string name = method switch
        {
            MethodDeclarationSyntax m => m.Identifier.Text,
            LocalFunctionStatementSyntax f => f.Identifier.Text,
            _ => type,
        };
        return $"{type}.{name}";
    }

    /// <summary>Links and the rows of tables can't be broken; a table's cells have a limit of their own.</summary>
    private static bool IsExempt(string file, string line) =>
        file.EndsWith(".md", StringComparison.Ordinal)
        && (line.StartsWith('|') || line.Contains("](http", StringComparison.Ordinal));

    private static IEnumerable<Violation> FileSize(string file, string text)
    {
        if (text.Length > FileLimit)
            yield return new("long file", file, 1, $"{text.Length} characters; the limit is {FileLimit}");
    }

    private static IEnumerable<Violation> MethodSizes(string file, SyntaxNode root)
    {
        foreach (var method in root.DescendantNodes().OfType<BaseMethodDeclarationSyntax>())
        {
            int size = Size(method.WithAttributeLists([])); // the rows of a theory are data
            if (size > MethodLimit)
                yield return new(
                    "long method",
                    file,
                    LineOf(method),
                    $"{Name(method)} has {size} characters; the limit is {MethodLimit}"
                );
        }
    }

    private static IEnumerable<Violation> Parameters(string file, SyntaxNode root)
    {
        foreach (var list in root.DescendantNodes().OfType<ParameterListSyntax>())
        {
            bool isLambda = list.Parent is AnonymousFunctionExpressionSyntax or DelegateDeclarationSyntax;
            if (list.Parameters.Count > ParameterLimit && !isLambda && !IsNative(list.Parent) && !IsTheory(list.Parent))
                yield return new(
                    "many parameters",
                    file,
                    LineOf(list),
                    $"{list.Parameters.Count}; the limit is {ParameterLimit}, then a record with names"
                );
        }
    }

    /// <summary>One statement a line.</summary>
    private static IEnumerable<Violation> Statements(string file, SyntaxNode root)
    {
        var starts = root.DescendantNodes()
            .OfType<StatementSyntax>()
            .Where(s => s is not BlockSyntax and not LocalFunctionStatementSyntax);
        foreach (
            var line in starts
                .Where(s => s.Parent is BlockSyntax or SwitchSectionSyntax)
                .GroupBy(LineOf)
                .Where(g => g.Count() > 1)
        )
        {
            if (line.Select(s => s.Parent).Distinct().Count() < line.Count())
                yield return new("two statements", file, line.Key, "one statement a line");
        }
    }

    /// <summary>Nested conditionals, names given by <c>is var</c>, and tuple assignments that only save lines.</summary>
    private static IEnumerable<Violation> Puzzles(string file, SyntaxNode root)
    {
        foreach (var conditional in root.DescendantNodes().OfType<ConditionalExpressionSyntax>())
        {
            if (
                conditional
                    .Ancestors()
                    .TakeWhile(a =>
                        a is not StatementSyntax and not AnonymousFunctionExpressionSyntax and not ArgumentSyntax
                    )
                    .OfType<ConditionalExpressionSyntax>()
                    .Any()
            )
                yield return new(
                    "nested conditional",
                    file,
                    LineOf(conditional),
                    "an if, a switch or a name for the inner one"
                );
        }
        foreach (var pattern in root.DescendantNodes().OfType<VarPatternSyntax>())
        {
            if (pattern.Parent is IsPatternExpressionSyntax)
                yield return new("is var", file, LineOf(pattern), "a variable of its own");
        }
        foreach (var assignment in root.DescendantNodes().OfType<AssignmentExpressionSyntax>())
        {
            if (
                assignment is { Left: TupleExpressionSyntax left, Right: TupleExpressionSyntax right }
                && !IsSwap(left, right)
            )
                yield return new("tuple assignment", file, LineOf(assignment), "one assignment a line");
        }
    }

    /// <summary>Values that trade places, or that are computed from each other, change together.</summary>
    private static bool IsSwap(TupleExpressionSyntax left, TupleExpressionSyntax right)
    {
        var names = left.Arguments.Select(a => a.ToString()).ToHashSet();
        return right.DescendantNodes().Any(n => n is ExpressionSyntax && names.Contains(n.ToString()));
    }

    private static bool IsNative(SyntaxNode? member) =>
        member is MemberDeclarationSyntax { AttributeLists: var lists }
        && lists.SelectMany(l => l.Attributes).Any(a => a.Name.ToString() is "LibraryImport" or "DllImport");

    private static bool IsTheory(SyntaxNode? member) =>
        member is MemberDeclarationSyntax { AttributeLists: var lists }
        && lists.SelectMany(l => l.Attributes).Any(a => a.Name.ToString() == "Theory");

    private static int LineOf(SyntaxNode node) => node.GetLocation().GetLineSpan().StartLinePosition.Line + 1;
}
