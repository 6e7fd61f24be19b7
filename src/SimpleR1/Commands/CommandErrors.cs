using SimpleR1.Cluster.Trainer;
using SimpleR1.Screen;
using SimpleR1.Tensors.Cuda;
using SimpleR1.Training.Policy;
using SimpleR1.Training.Recipes;
using SimpleR1.Training.Rewards;

namespace SimpleR1.Commands;

/// <summary>
/// Turns errors that a user can correct into a message and an exit code; bugs keep their stack trace.
/// </summary>
internal static class CommandErrors
{
    private const int FailedExitCode = 1;

    /// <param name="command">Returns the exit code.</param>
    /// <param name="advice">What to do next; printed after the error.</param>
    public static async Task<int> RunAsync(Func<Task<int>> command, Func<string?>? advice = null)
    {
        int? code = await RunAsync(async () => (int?)await command(), advice);
        return code!.Value;
    }

    /// <param name="command">Returns the exit code; null where the program has more to do.</param>
    public static async Task<int?> RunAsync(Func<Task<int?>> command, Func<string?>? advice = null)
    {
        try
        {
            return await command();
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("stopped");
            return Interrupts.ExitCode;
        }
        catch (Exception e)
        {
            var error = Unwrap(e);
            Console.Error.WriteLine(
                IsForUser(error)
                    ? $"error: {error.Message}"
                    : $"error: this looks like a bug in SimpleR1; please report it with what follows\n{e}"
            );
            if (advice?.Invoke() is { } next)
                Console.Error.WriteLine(next);
            return FailedExitCode;
        }
    }

    private static Exception Unwrap(Exception e) =>
        e is AggregateException { InnerExceptions.Count: 1 } aggregate ? Unwrap(aggregate.InnerException!) : e;

    private static bool IsForUser(Exception e) =>
        e
            is RecipeException
                or IOException
                or InvalidDataException
                or NotSupportedException
                or TimeoutException
                or NonFiniteException
                or UnauthorizedAccessException
                or ArgumentException
                or RewardException
                or RewardCompilationException
                or WorkersLostException
                or TakenOverException
                or DllNotFoundException
                or CudaDeviceMissingException
                or CudaOutOfMemoryException;
}
