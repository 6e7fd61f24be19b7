using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// Reverse-mode differentiation for the operations in <see cref="Ops"/>: each records how to send its output's gradient
/// to its inputs, and <see cref="Backward"/> unwinds them. Parameters' gradients are added in place into buffers given
/// beforehand, so no weight gradient is ever allocated, and an operation's output is freed as soon as its own backward has run.
/// </summary>
/// <remarks>
/// Not libtorch's autograd, because a C# exception inside an autograd callback aborts the process and because its weight
/// gradients are a temporary and an addition more. Code that wants autograd can have it inside one operation: see <see cref="Torch"/>.
/// One tape belongs to one thread; nothing on it survives <see cref="Dispose"/>.
/// </remarks>
public sealed class Tape : IDisposable
{
    private readonly List<(Tensor[] Outputs, Action Backward)> entries = [];
    private readonly Dictionary<Tensor, Tensor> gradients = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<Tensor, Tensor> parameters = new(ReferenceEqualityComparer.Instance);

    /// <summary>Names <paramref name="gradient"/> (same shape) as the place where the gradient of <paramref name="parameter"/> adds up.</summary>
    public void Parameter(Tensor parameter, Tensor gradient) => parameters[parameter] = gradient;

    /// <summary>The place of a parameter's gradient; null where it isn't trained.</summary>
    public Tensor? ParameterGradient(Tensor parameter) => parameters.GetValueOrDefault(parameter);

    /// <summary>Adds an operation. The tape owns <paramref name="outputs"/> from now on.</summary>
    public void Record(Tensor[] outputs, Action backward)
    {
        foreach (var output in outputs)
            output.DetachFromDisposeScope();
        entries.Add((outputs, backward));
    }

    /// <summary>The gradient that has arrived at a tensor; zeros where none has. The caller owns it.</summary>
    public Tensor TakeGradient(Tensor tensor) =>
        gradients.Remove(tensor, out var gradient) ? gradient : zeros_like(tensor).DetachFromDisposeScope();

    /// <summary>Hands <paramref name="gradient"/> (ownership too) to a tensor; a second one is added to the first.</summary>
    public void Accumulate(Tensor tensor, Tensor gradient)
    {
        gradient.DetachFromDisposeScope();
        if (gradients.TryGetValue(tensor, out var sum))
        {
            sum.add_(gradient, Ops.One);
            gradient.Dispose();
        }
        else
            gradients[tensor] = gradient;
    }

    /// <summary>Sends <paramref name="gradient"/> = d(loss)/d(<paramref name="output"/>) back through everything recorded, newest first.</summary>
    public void Backward(Tensor output, Tensor gradient)
    {
        using var none = no_grad();
        Accumulate(output, gradient);
        for (int i = entries.Count - 1; i >= 0; i--)
        {
            using (NewDisposeScope())
                entries[i].Backward();
            foreach (var done in entries[i].Outputs)
                done.Dispose();
            entries.RemoveAt(i);
        }
    }

    /// <summary>
    /// Runs <paramref name="forward"/> without keeping what it makes, and runs it again, recorded, when its gradient is needed:
    /// gradient checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    /// </summary>
    public Tensor[] Checkpoint(Func<Tape?, Tensor[], Tensor[]> forward, Tensor[] inputs)
    {
        Tensor[] outputs;
        using (NewDisposeScope())
            outputs = [.. forward(null, inputs).Select(o => o.DetachFromDisposeScope())];
        Record(
            outputs,
            () =>
            {
                using var inner = new Tape();
                foreach (var (parameter, place) in parameters)
                    inner.Parameter(parameter, place);
                var again = forward(inner, inputs);
                for (int i = 1; i < again.Length; i++)
                    inner.Accumulate(again[i], TakeGradient(outputs[i]));
                inner.Backward(again[0], TakeGradient(outputs[0]));
                foreach (var input in inputs)
                    Accumulate(input, inner.TakeGradient(input));
            }
        );
        return outputs;
    }

    /// <summary>Any TorchSharp expression of one input as one operation, differentiated by libtorch's autograd.</summary>
    /// <remarks>Runs the expression twice (again in the backward pass) and keeps no graph in between.</remarks>
    public static Tensor Torch(Tape? tape, Func<Tensor, Tensor> expression, Tensor input)
    {
        var output = expression(input);
        tape?.Record(
            [output],
            () =>
            {
                using var on = enable_grad();
                var leaf = input.detach().requires_grad_(true);
                var again = expression(leaf);
                using var gradient = tape.TakeGradient(output);
                again.backward([gradient]);
                tape.Accumulate(input, leaf.grad!.alias());
            }
        );
        return output;
    }

    public void Dispose()
    {
        foreach (var (outputs, _) in entries)
        foreach (var output in outputs)
            output.Dispose();
        foreach (var gradient in gradients.Values)
            gradient.Dispose();
        entries.Clear();
        gradients.Clear();
    }
}
