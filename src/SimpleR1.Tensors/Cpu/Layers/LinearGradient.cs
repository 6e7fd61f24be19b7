namespace SimpleR1.Tensors.Cpu.Layers;

/// <summary>
/// The gradients of y = x·Wᵀ: products of blocks that stay in a core's caches (see <see cref="SmallProduct"/>). Every
/// sum has one fixed order, whatever the number of threads.
/// </summary>
internal static unsafe class LinearGradient
{
    private const int RowsPerItem = 64,
        TermsPerBlock = 128;
    private const int OutputsPerItem = 32,
        RowsPerBlock = 128;

    /// <summary>dx = dy·W.</summary>
    /// <param name="dy">[rows, outputs]</param>
    /// <param name="weight">[outputs, inputs]</param>
    /// <param name="dx">[rows, inputs]; overwritten</param>
    public static void Input(float* dy, float* weight, float* dx, ProductShape shape)
    {
        var (rows, outputs, inputs) = shape;
        CpuParallel.For(
            (rows + RowsPerItem - 1) / RowsPerItem,
            item =>
            {
                long first = (long)item * RowsPerItem;
                int count = (int)Math.Min(RowsPerItem, rows - first);
                for (int o = 0; o < outputs; o += TermsPerBlock)
                    SmallProduct.Multiply(
                        dy + first * outputs + o,
                        outputs,
                        1,
                        weight + (long)o * inputs,
                        inputs,
                        dx + first * inputs,
                        inputs,
                        count,
                        inputs,
                        Math.Min(TermsPerBlock, outputs - o),
                        add: o > 0
                    );
            }
        );
    }

    /// <summary>dW += dyᵀ·x.</summary>
    /// <param name="x">[rows, inputs]</param>
    /// <param name="dWeight">[outputs, inputs]; added to</param>
    public static void Weight(float* dy, float* x, float* dWeight, ProductShape shape)
    {
        var (rows, outputs, inputs) = shape;
        CpuParallel.For(
            (outputs + OutputsPerItem - 1) / OutputsPerItem,
            item =>
            {
                int first = item * OutputsPerItem,
                    count = Math.Min(OutputsPerItem, outputs - first);
                // dyᵀ of this item: its columns lie a whole row apart in dy.
                float* block = Scratch.Rent(OutputsPerItem * RowsPerBlock);
                for (int row = 0; row < rows; row += RowsPerBlock)
                {
                    int terms = Math.Min(RowsPerBlock, rows - row);
                    for (int r = 0; r < terms; r++)
                    {
                        float* from = dy + (long)(row + r) * outputs + first;
                        for (int o = 0; o < count; o++)
                            block[o * RowsPerBlock + r] = from[o];
                    }
                    SmallProduct.Multiply(
                        block,
                        RowsPerBlock,
                        1,
                        x + (long)row * inputs,
                        inputs,
                        dWeight + (long)first * inputs,
                        inputs,
                        count,
                        inputs,
                        terms,
                        add: true
                    );
                }
            }
        );
    }
}
