using static TorchSharp.torch;

namespace SimpleR1.Tensors;

/// <summary>
/// Reverse-mode differentiation for the operations in <see cref="Ops"/>: each records how to send its output's
/// gradient to its inputs, and <see cref="Backward"/> unwinds them. Parameters' gradients are added in place into
/// buffers given beforehand, so no weight gradient is ever allocated, and an operation's output is freed as soon as
/// its own backward has run.
/// </summary>
/// <remarks>
/// Not libtorch's autograd, because a C# exception inside an autograd callback aborts the process and because its
/// weight gradients are a temporary and an addition more. Code that wants autograd can have it inside one operation:
/// see <see cref="Torch"/>. One tape belongs to one thread; nothing on it survives <see cref="Dispose"/>.
/// </remarks>
public sealed class Tape : IDisposable
{
    private readonly List<(Tensor[] Outputs, Action Backward)> entries = [];
    private readonly Dictionary<Tensor, Gradient> gradients = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<Tensor, Tensor> parameters = new(ReferenceEqualityComparer.Instance);
    private readonly List<Gradient> reading = []; // shared memory that the current operation reads

    /// <summary>Memory that is the gradient of several tensors, as of x and delta in x + delta.</summary>
    private sealed class Sharing
    {
        public int Holders;
    }

    /// <summary>A gradient that has arrived. While others hold its memory too, it must not be written.</summary>
    private readonly record struct Gradient(Tensor Tensor, Sharing? Sharing = null)
    {
        public bool IsShared => Sharing is { Holders: > 1 };

        public void Release()
        {
            if (Sharing is null || --Sharing.Holders == 0)
                Tensor.Dispose();
        }
    }

    /// <summary>
    /// Names <paramref name="gradient"/> (same shape) as the place where the gradient of <paramref name="parameter"/>
    /// adds up.
    /// </summary>
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

    /// <summary>
    /// Frees the memory of an operation's output before its gradient is known: nothing will read its values again.
    /// </summary>
    public void Release(Tensor output) => output.Dispose();

    /// <summary>
    /// The gradient that has arrived at a tensor; zeros where none has. To be read in the operation that takes it,
    /// and disposed there: other tensors may have the same memory as their gradient.
    /// </summary>
    public Tensor TakeGradient(Tensor tensor)
    {
        if (!gradients.Remove(tensor, out var gradient))
            return Zeros(tensor);
        if (gradient.Sharing is null)
            return gradient.Tensor;
        reading.Add(gradient); // held until the operation has ended
        return gradient.Tensor.alias();
    }

    /// <summary>
    /// The same, for the caller to change and to hand on; a copy only where another tensor's gradient has the same
    /// memory.
    /// </summary>
    public Tensor TakeOwnGradient(Tensor tensor)
    {
        if (!gradients.Remove(tensor, out var gradient))
            return Zeros(tensor);
        if (!gradient.IsShared)
            return gradient.Tensor;
        var copy = Copy(gradient.Tensor);
        gradient.Release();
        return copy;
    }

    /// <summary>
    /// Hands <paramref name="gradient"/> (ownership too) to a tensor; a second one is added to the first.
    /// </summary>
    public void Accumulate(Tensor tensor, Tensor gradient) => Accumulate(tensor, new Gradient(gradient));

    /// <summary>Hands one gradient (ownership too) to two tensors, without a copy of it.</summary>
    public void AccumulateShared(Tensor first, Tensor second, Tensor gradient)
    {
        var sharing = new Sharing { Holders = 2 };
        Accumulate(first, new Gradient(gradient, sharing));
        Accumulate(second, new Gradient(gradient, sharing));
    }

    private void Accumulate(Tensor tensor, Gradient gradient)
    {
        gradient.Tensor.DetachFromDisposeScope();
        if (!gradients.TryGetValue(tensor, out var sum))
        {
            gradients[tensor] = gradient;
            return;
        }

        // Only memory that no other tensor's gradient has may be added to.
        if (sum.IsShared && !gradient.IsShared)
            (sum, gradient) = (gradient, sum);
        else if (sum.IsShared)
        {
            var copy = new Gradient(Copy(sum.Tensor));
            sum.Release();
            sum = copy;
        }
        IKernels.Of(sum.Tensor).Add(gradient.Tensor, sum.Tensor);
        gradient.Release();
        gradients[tensor] = sum;
    }

    private static Tensor Zeros(Tensor tensor) =>
        IKernels.Of(tensor).AllocateZeros(tensor.shape, tensor.dtype).DetachFromDisposeScope();

    private static Tensor Copy(Tensor tensor)
    {
        var kernels = IKernels.Of(tensor);
        var copy = kernels.Allocate(tensor.shape, tensor.dtype).DetachFromDisposeScope();
        kernels.Copy(tensor, copy);
        return copy;
    }

    /// <summary>
    /// Sends <paramref name="gradient"/> = d(loss)/d(<paramref name="output"/>) back through everything recorded,
    /// newest first.
    /// </summary>
    public void Backward(Tensor output, Tensor gradient)
    {
        using var none = no_grad();
        Accumulate(output, gradient);
        Unwind();
    }

    private void Unwind()
    {
        for (int i = entries.Count - 1; i >= 0; i--)
        {
            using (NewDisposeScope())
                entries[i].Backward();
            foreach (var read in reading)
                read.Release();
            reading.Clear();
            foreach (var done in entries[i].Outputs)
                done.Dispose();
            entries.RemoveAt(i);
        }
    }

    /// <summary>
    /// Runs <paramref name="forward"/> without keeping what it makes, and runs it again, recorded, when its gradient
    /// is needed: gradient checkpointing (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
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
                var recomputed = forward(inner, inputs);
                for (int i = 0; i < recomputed.Length; i++)
                    MoveGradient(outputs[i], inner, recomputed[i]);
                inner.Unwind();
                foreach (var input in inputs)
                    inner.MoveGradient(input, this, input);
            }
        );
        return outputs;
    }

    /// <summary>
    /// Hands the gradient of <paramref name="from"/> to a tensor of another tape; zeros where none has arrived.
    /// </summary>
    private void MoveGradient(Tensor from, Tape target, Tensor to)
    {
        if (!gradients.Remove(from, out var gradient))
            gradient = new(Zeros(from));
        target.Accumulate(to, gradient);
    }

    /// <summary>
    /// Any TorchSharp expression of one input as one operation, differentiated by libtorch's autograd.
    /// </summary>
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
                var result = expression(leaf);
                using var gradient = tape.TakeGradient(output);
                result.backward([gradient]);
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
        foreach (var gradient in gradients.Values.Concat(reading))
            gradient.Tensor.Dispose();
        entries.Clear();
        gradients.Clear();
        reading.Clear();
    }
}
