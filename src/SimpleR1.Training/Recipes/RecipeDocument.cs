namespace SimpleR1.Training.Recipes;

/// <summary>A whole recipe. It knows where each of its keys was written, for errors that are found after reading.</summary>
public abstract record RecipeDocument
{
    /// <summary>Not a key of the recipe; recipes from different files may be equal.</summary>
    internal RecipeSource Source { get; set; } = RecipeSource.None;
}

/// <summary>
/// The file that a recipe was read from, and the lines of its keys. All sources are equal, so that recipes compare by
/// their values alone.
/// </summary>
/// <param name="path">The recipe's file, as messages call it.</param>
/// <param name="origins">"file:line", or the override, by the path of a key.</param>
internal sealed class RecipeSource(string path, IReadOnlyDictionary<string, string> origins) : IEquatable<RecipeSource>
{
    /// <summary>The source of a recipe that was made in C#.</summary>
    public static RecipeSource None { get; } = new("recipe", new Dictionary<string, string>());

    public string Path => path;

    /// <summary>Where a key was written, or the section around it, or the file when all of it is default.</summary>
    public string OriginOf(string key)
    {
        for (string at = key; at != ""; at = at.Contains('.') ? at[..at.LastIndexOf('.')] : "")
            if (origins.TryGetValue(at, out string? origin))
                return origin;
        return path;
    }

    public bool Equals(RecipeSource? other) => other is not null;

    public override bool Equals(object? other) => other is RecipeSource;

    public override int GetHashCode() => 0;
}

/// <summary>
/// A recipe as far as it could be read, with all that is wrong about it so far. Checks of what it names (files, devices,
/// ports) add to the list, so that all mistakes are reported together.
/// </summary>
/// <param name="recipe">Keys with a problem have their defaults.</param>
/// <param name="problems">The list to add to.</param>
internal sealed class CheckedRecipe<T>(T recipe, List<RecipeProblem> problems)
    where T : RecipeDocument
{
    private readonly int misread = problems.Count;

    public T Recipe => recipe;

    /// <summary>A recipe that was read without problems, or made in C#.</summary>
    public static CheckedRecipe<T> Of(T recipe) => new(recipe, []);

    /// <summary>Adds a problem of a key.</summary>
    public void Add(string key, string message) => problems.Add(new(recipe.Source.OriginOf(key), key, message));

    /// <summary>
    /// Reads what a key names, unless the recipe has a problem at the key. What a person can correct becomes a problem.
    /// </summary>
    /// <returns>Null where there is a problem.</returns>
    public TResult? Try<TResult>(string key, Func<TResult> read)
        where TResult : class
    {
        if (IsMisread(key))
            return null;
        try
        {
            return read();
        }
        catch (Exception e) when (IsMistake(e))
        {
            Add(key, e.Message);
            return null;
        }
    }

    /// <inheritdoc cref="Try{TResult}"/>
    public void Try(string key, Action check) =>
        Try(
            key,
            () =>
            {
                check();
                return "";
            }
        );

    /// <summary>Throws the problems, if there are any.</summary>
    /// <exception cref="RecipeException">It has all of them.</exception>
    public T Require() => problems.Count == 0 ? recipe : throw ToException();

    public RecipeException ToException() => new(recipe.Source.Path, problems);

    /// <summary>
    /// True when reading the recipe found a problem of this key, of the section around it, or of a key below it.
    /// </summary>
    public bool IsMisread(string key) =>
        problems
            .Take(misread)
            .Any(p =>
                p.Key == key
                || p.Key.StartsWith(key + ".", StringComparison.Ordinal)
                || p.Key != "" && key.StartsWith(p.Key + ".", StringComparison.Ordinal)
            );

    private static bool IsMistake(Exception e) =>
        e
            is IOException
                or InvalidDataException
                or NotSupportedException
                or ArgumentException
                or UnauthorizedAccessException
                or DllNotFoundException
                or Rewards.RewardCompilationException
                or Tensors.Cuda.CudaDeviceMissingException;
}
