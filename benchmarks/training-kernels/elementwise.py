"""The other kernels of training: against float64, and their share of the GPU's copy rate.

python3 benchmarks/training-kernels/elementwise.py    (needs a GPU with 16 GB, nvcc and PyTorch; half a minute)
"""
import ctypes

import torch

from kernels import Kernels, difference, milliseconds

TOKENS, HIDDEN, INTERMEDIATE, VOCABULARY, PARAMETERS = 32768, 896, 4864, 151936, 494032768  # Qwen2.5-0.5B


def report(name, bytes_moved, action, *differences):
    time = milliseconds(action)
    shown = ", ".join(f"{d:.1e}" for d in differences)
    print(f"{name}: {time:.3f} ms, {bytes_moved / time / 1e6:,.0f} GB/s, difference {shown}")


def normal(*shape, type=torch.float32):
    return torch.randn(*shape, device="cuda").to(type)


def rms_norm_gradient():
    x, weight, d_y = normal(TOKENS, HIDDEN), normal(HIDDEN, type=torch.bfloat16), normal(TOKENS, HIDDEN, type=torch.bfloat16)
    stream, blocks = normal(TOKENS, HIDDEN), 4 * torch.cuda.get_device_properties(0).multi_processor_count
    d_x, d_delta, d_weight = stream.clone(), torch.empty_like(d_y), torch.zeros(HIDDEN, device="cuda")
    parts = torch.empty(blocks, HIDDEN, device="cuda")
    norm, sums = Kernels("RmsNormGradient.cu", ELEMENT="bf16"), Kernels("ColumnSum.cu", ELEMENT="bf16")

    def run():
        arguments = (x, weight, d_y, d_x, d_delta, parts, TOKENS, HIDDEN, 1e-6)
        norm.launch("rms_norm_gradient", blocks, 128, *arguments)

    run()
    sums.launch("add_parts", (HIDDEN + 127) // 128, 128, parts, d_weight, blocks, HIDDEN, HIDDEN)
    wide_x, wide_weight = x.double().requires_grad_(True), weight.double().requires_grad_(True)
    (wide_x * torch.rsqrt(wide_x.pow(2).mean(-1, keepdim=True) + 1e-6) * wide_weight).backward(d_y.double())
    differences = difference(d_x, wide_x.grad + stream), difference(d_weight, wide_weight.grad)
    report("gradient of the norm", 16 * TOKENS * HIDDEN, run, *differences)


def swiglu_gradient():
    gate_up, d_y = normal(TOKENS, 2 * INTERMEDIATE, type=torch.bfloat16), normal(TOKENS, INTERMEDIATE, type=torch.bfloat16)
    d_gate_up, y = torch.empty_like(gate_up), torch.empty_like(d_y)
    kernels = Kernels("SwiGluGradient.cu", ELEMENT="bf16")
    grid = (TOKENS, (INTERMEDIATE // 8 + 255) // 256)

    def run():
        kernels.launch("swiglu_gradient", grid, 256, gate_up, d_y, d_gate_up, y, INTERMEDIATE)

    run()
    wide = gate_up[:2000].double().requires_grad_(True)
    (torch.nn.functional.silu(wide[:, :INTERMEDIATE]) * wide[:, INTERMEDIATE:]).backward(d_y[:2000].double())
    report("gradient of SwiGLU", 12 * TOKENS * INTERMEDIATE, run, difference(d_gate_up[:2000], wide.grad))


def log_probs(rows=4096, temperature=0.7):
    logits, chosen = 2 * normal(rows, VOCABULARY), torch.randint(0, VOCABULARY, (rows,), device="cuda")
    log_prob, log_sum, entropy = (torch.empty(rows, device="cuda") for _ in range(3))
    kernels = Kernels("TokenLogProbs.cu", ELEMENT="bf16")

    def forward():
        arguments = (logits, chosen, log_prob, log_sum, entropy, VOCABULARY, 1 / temperature)
        kernels.launch("token_log_probs", rows, 512, *arguments)

    forward()
    expected = (logits[:256].double() / temperature).log_softmax(-1)
    differences = difference(log_prob[:256], expected.gather(1, chosen[:256, None])[:, 0]), difference(
        entropy[:256], -(expected.exp() * expected).sum(-1)
    )
    report("log-probs and entropy", 4 * rows * VOCABULARY, forward, *differences)

    slope = normal(rows) / rows

    def backward():
        arguments = (logits, chosen, log_sum, slope, VOCABULARY, 1 / temperature)
        kernels.launch("token_log_probs_gradient", rows, 512, *arguments)

    backward()
    found = logits.view(torch.bfloat16)[:256, :VOCABULARY]
    gradient = -expected.exp()
    gradient.scatter_add_(1, chosen[:256, None], torch.ones(256, 1, device="cuda", dtype=torch.double))
    gradient *= slope[:256, None].double() / temperature
    report("gradient of log-probs", 6 * rows * VOCABULARY, backward, difference(found, gradient))


def optimizer(rate=1e-5, beta1=0.9, beta2=0.95, epsilon=1e-8, decay=0.01):
    master = 0.02 * normal(PARAMETERS)
    bits = master.view(torch.int32)
    high = (bits + 0x8000) >> 16
    weight, remainder = high.to(torch.int16), (bits - (high << 16)).to(torch.int16)
    gradient, mean, variance = 1e-3 * normal(PARAMETERS), *(torch.zeros(PARAMETERS, device="cuda") for _ in range(2))
    chunks, length = (PARAMETERS + 16383) // 16384, ctypes.c_longlong(PARAMETERS)
    sums, norm = torch.empty(chunks, device="cuda", dtype=torch.double), torch.empty(1, device="cuda", dtype=torch.double)
    kernels = Kernels("AdamW.cu", ELEMENT="bf16")

    def squares():
        kernels.launch("sum_of_squares", chunks, 256, gradient, length, sums)
        kernels.launch("sum_of_sums", 1, 1024, sums, chunks, norm)

    def step(number=4):
        first, second = 1 - beta1**number, 1 - beta2**number
        numbers = (rate / first, second**-0.5, 1 - rate * decay, beta1, beta2, 1 - beta1, 1 - beta2, epsilon)
        arguments = (weight, remainder, gradient, mean, variance, length, scale, *numbers)
        kernels.launch("adamw_split", (PARAMETERS + 2047) // 2048, 256, *arguments)

    squares()
    report("norm of the gradient", 4 * PARAMETERS, squares, abs(norm.item() ** 0.5 / gradient.double().norm().item() - 1))
    scale = min(1.0, norm.item() ** -0.5)

    part = slice(0, 1 << 20)
    start = expected = master[part].double()
    m = v = torch.zeros_like(expected)
    for number in (1, 2, 3):
        step(number)
        slope = gradient[part].double() * scale
        m, v = beta1 * m + (1 - beta1) * slope, beta2 * v + (1 - beta2) * slope**2
        change = m / (1 - beta1**number) / ((v / (1 - beta2**number)).sqrt() + epsilon)
        expected = expected * (1 - rate * decay) - rate * change
    found = ((weight[part].int() << 16) + remainder[part].int()).view(torch.float32)
    report("AdamW", 28 * PARAMETERS, step, difference(found.double() - start, expected - start))


if __name__ == "__main__":
    print(torch.cuda.get_device_name())
    torch.manual_seed(1)
    rms_norm_gradient()
    swiglu_gradient()
    log_probs()
    optimizer()
