using System.Globalization;
using static TorchSharp.torch;

namespace SimpleR1.Tensors.Cuda.Libraries;

/// <summary>A linear layer's product, and those of its gradients.</summary>
internal enum ProductKind
{
    /// <summary>y = x · Wᵀ</summary>
    Linear,

    /// <summary>dx = dy · W</summary>
    InputGradient,

    /// <summary>dW += dyᵀ · x</summary>
    WeightGradient,
}

/// <summary>A matrix in cuBLAS's view: the elements of a column follow each other.</summary>
/// <param name="Leading">Distance of two columns, in elements.</param>
/// <param name="Transposed">Whether the product takes it transposed.</param>
internal readonly record struct ColumnMatrix(int Rows, int Columns, long Leading, bool Transposed = false);

/// <summary>What a product's kernel is chosen for.</summary>
internal readonly record struct ProductKey
{
    private const int ExactTokens = 64,
        SteppedTokens = 1024;

    public required ProductKind Kind { get; init; }

    /// <summary>Rows of x and y.</summary>
    public required int Tokens { get; init; }
    public required int Outputs { get; init; }
    public required int Inputs { get; init; }

    /// <summary>Distance of two rows of y or dy, in elements.</summary>
    public required long Stride { get; init; }
    public required ScalarType Type { get; init; }
    public required ScalarType ResultType { get; init; }
    public bool Bias { get; init; }

    public static ProductKey Linear(Tensor x, Tensor weight, Tensor y, bool bias) =>
        Of(ProductKind.Linear, x, weight, y) with
        {
            Stride = weight.shape[0],
            Bias = bias,
        };

    public static ProductKey InputGradient(Tensor dy, Tensor weight, Tensor dx) =>
        Of(ProductKind.InputGradient, dy, weight, dx) with
        {
            Stride = dy.stride(0),
        };

    public static ProductKey WeightGradient(Tensor dy, Tensor x, Tensor dWeight) =>
        Of(ProductKind.WeightGradient, x, dWeight, dWeight) with
        {
            Stride = dy.stride(0),
        };

    private static ProductKey Of(ProductKind kind, Tensor rows, Tensor weight, Tensor result) =>
        new()
        {
            Kind = kind,
            Tokens = (int)rows.shape[0],
            Outputs = (int)weight.shape[0],
            Inputs = (int)weight.shape[1],
            Stride = 0,
            Type = rows.dtype,
            ResultType = result.dtype,
        };

    /// <summary>The left factor: yᵀ = W · xᵀ, dxᵀ = Wᵀ · dyᵀ, dWᵀ = xᵀ · dy.</summary>
    public ColumnMatrix A =>
        Kind == ProductKind.WeightGradient
            ? new(Inputs, Tokens, Inputs)
            : new(Inputs, Outputs, Inputs, Transposed: Kind == ProductKind.Linear);

    /// <summary>The right factor.</summary>
    public ColumnMatrix B =>
        Kind == ProductKind.Linear
            ? new(Inputs, Tokens, Inputs)
            : new(Outputs, Tokens, Stride, Transposed: Kind == ProductKind.WeightGradient);

    public ColumnMatrix Result =>
        Kind switch
        {
            ProductKind.Linear => new(Outputs, Tokens, Stride),
            ProductKind.InputGradient => new(Inputs, Tokens, Inputs),
            _ => new(Inputs, Outputs, Inputs),
        };

    /// <summary>Whether the product is added to what its result holds.</summary>
    public bool Adds => Kind == ProductKind.WeightGradient;

    public long ResultBytes => Result.Leading * Result.Columns * ResultType.ElementSize();

    /// <summary>
    /// The key of the largest number of tokens that shares a choice with this one: up to 64 each has its own, up to
    /// 1,024 every 64th, above every eighth of a power of two.
    /// </summary>
    public ProductKey WithSharedTokens()
    {
        int step = ExactTokens;
        if (Tokens <= ExactTokens)
            step = 1;
        else if (Tokens > SteppedTokens)
            step = 1 << (int.Log2(Tokens - 1) - 2);
        return this with { Tokens = (Tokens + step - 1) / step * step };
    }

    /// <summary>A text without line breaks, for <see cref="Parse"/>.</summary>
    public string ToLine() =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{Kind} {Tokens} {Outputs} {Inputs} {Stride} {Type} {ResultType} {Bias}"
        );

    public static ProductKey Parse(string line)
    {
        string[] parts = line.Split(' ');
        return new()
        {
            Kind = Enum.Parse<ProductKind>(parts[0]),
            Tokens = int.Parse(parts[1], CultureInfo.InvariantCulture),
            Outputs = int.Parse(parts[2], CultureInfo.InvariantCulture),
            Inputs = int.Parse(parts[3], CultureInfo.InvariantCulture),
            Stride = long.Parse(parts[4], CultureInfo.InvariantCulture),
            Type = ElementType.ParseScalar(parts[5]).Scalar,
            ResultType = ElementType.ParseScalar(parts[6]).Scalar,
            Bias = bool.Parse(parts[7]),
        };
    }
}
