"""Attention of packed sequences, forward and backward: against float64, and next to PyTorch's FlashAttention-2.

python3 benchmarks/training-kernels/attention.py      (needs a GPU, nvcc and PyTorch; a minute)
"""
import torch

from kernels import Kernels, difference, milliseconds

KEYS = 64  # of a tile
ROWS = 64  # of a block


def whole(lengths):
    """Families of one segment: sequences."""
    return [[length] for length in lengths]


class Attention:
    """One shape, compiled. A family is a segment, which the segments after it see first."""

    def __init__(self, heads, kv_heads, dimension, families):
        self.heads, self.kv_heads, self.dimension, self.families = heads, kv_heads, dimension, families
        self.lengths = [sum(family) for family in families]
        macros = dict(ELEMENT="bf16", HEAD_DIM=dimension, GROUP=heads // kv_heads, KV_HEADS=kv_heads)
        self.forward_kernels = Kernels("PackedAttention.cu", **macros)
        self.backward_kernels = Kernels("PackedAttentionGradient.cu", **macros)
        rows, keys, first = [], [], 0
        for prefix, *readers in families:  # items as PackedItem.cuh has them
            rows += [(first, prefix, row, 0, 0, 0) for row in range(0, prefix * heads // kv_heads, ROWS)]
            keys += [(first, prefix, key, 0, 0, sum(readers)) for key in range(0, prefix, KEYS)]
            start, first = first, first + prefix
            for length in readers:
                seen = (start, prefix, 0)
                rows += [(first, length, row, *seen) for row in range(0, length * heads // kv_heads, ROWS)]
                keys += [(first, length, key, *seen) for key in range(0, length, KEYS)]
                first += length
        rows.sort(key=lambda item: -item[2] - item[4] * heads // kv_heads)  # the longest first
        keys.sort(key=lambda item: item[2] - item[1] - item[5])
        self.tokens = first
        self.rows = torch.tensor(rows, dtype=torch.int32, device="cuda")
        self.keys = torch.tensor(keys, dtype=torch.int32, device="cuda")
        torch.manual_seed(1)
        self.qkv = torch.randn(first, heads + 2 * kv_heads, dimension, device="cuda").bfloat16()
        self.d_out = torch.randn(first, heads, dimension, device="cuda").bfloat16()
        self.out = torch.full_like(self.d_out, float("nan"))
        self.log_sum = torch.full((first, heads), float("nan"), device="cuda")
        self.delta = torch.full_like(self.log_sum, float("nan"))
        self.d_qkv = torch.full_like(self.qkv, float("nan"))

    def forward(self):
        grid, scale = (len(self.rows), self.kv_heads), self.dimension**-0.5
        shared = 4 * KEYS * self.dimension * 2
        arguments = (self.qkv, self.out, self.log_sum, self.rows, scale)
        self.forward_kernels.launch("packed_attention", grid, 2 * ROWS, *arguments, shared=shared)

    def backward(self):
        grid, scale = (len(self.rows), self.kv_heads), self.dimension**-0.5
        shared = 4 * KEYS * self.dimension * 2
        arguments = (self.qkv, self.out, self.d_out, self.log_sum, self.delta, self.d_qkv, self.rows, scale)
        self.backward_kernels.launch("packed_attention_query_gradient", grid, 2 * ROWS, *arguments, shared=shared)
        grid = (len(self.keys), self.kv_heads)
        shared = (4 * ROWS + 2 * KEYS) * self.dimension * 2 + 4 * ROWS * 4
        arguments = (self.qkv, self.d_out, self.log_sum, self.delta, self.d_qkv, self.keys, scale)
        self.backward_kernels.launch("packed_attention_key_gradient", grid, 2 * KEYS, *arguments, shared=shared)

    def reference(self):
        """Output and gradient in float64, by PyTorch's autograd."""
        qkv = self.qkv.double().requires_grad_(True)
        outputs, first, group = [], 0, self.heads // self.kv_heads
        for prefix, *readers in self.families:
            length = prefix + sum(readers)
            part = qkv[first : first + length]
            query = part[:, : self.heads].transpose(0, 1)
            key, value = part[:, self.heads :].split(self.kv_heads, 1)
            key = key.repeat_interleave(group, 1).transpose(0, 1)
            value = value.repeat_interleave(group, 1).transpose(0, 1)
            score = (query @ key.transpose(1, 2)) * self.dimension**-0.5
            hidden = torch.ones(length, length, device="cuda", dtype=torch.bool).triu(1)
            start = prefix
            for reader in readers:  # which does not see those before it
                hidden[start : start + reader, prefix:start] = True
                start += reader
            outputs.append((score.masked_fill(hidden, float("-inf")).softmax(-1) @ value).transpose(0, 1))
            first += length
        out = torch.cat(outputs)
        out.backward(self.d_out.double())
        return out.detach(), qkv.grad

    def check(self):
        self.forward()
        self.backward()
        out, gradient = self.reference()
        first = self.d_qkv.clone()
        self.d_qkv.fill_(float("nan"))
        self.forward()
        self.backward()
        same = torch.equal(first.view(torch.int16), self.d_qkv.view(torch.int16))
        print(
            f"d {self.dimension}: relative difference from float64: output {difference(self.out, out):.1e}, "
            f"gradient {difference(self.d_qkv, gradient):.1e}; the same bits twice: {same}"
        )

    def compare(self):
        forward, backward = milliseconds(self.forward), milliseconds(self.backward)
        flash_forward, flash_backward = self.flash()
        ours, flash = forward + backward, flash_forward + flash_backward
        print(
            f"{len(self.lengths)} x {self.lengths[0]} tokens, {self.heads}/{self.kv_heads} heads, d {self.dimension}: "
            f"ours {forward:.3f} + {backward:.3f} = {ours:.3f} ms, FlashAttention-2 (deterministic) "
            f"{flash_forward:.3f} + {flash_backward:.3f} = {flash:.3f} ms, ratio {ours / flash:.2f}"
        )

    def compare_shared(self, prompt, answer, samples, groups):
        """The same samples with a prompt for each."""
        apart = Attention(self.heads, self.kv_heads, self.dimension, whole([prompt + answer] * samples * groups))
        ours = milliseconds(self.forward) + milliseconds(self.backward)
        theirs = milliseconds(apart.forward) + milliseconds(apart.backward)
        print(
            f"{groups} x {samples} answers of {answer} to prompts of {prompt}, {self.heads}/{self.kv_heads} heads, "
            f"d {self.dimension}: shared prompts {ours:.3f} ms, a prompt for each {theirs:.3f} ms, "
            f"ratio {ours / theirs:.2f}"
        )

    def flash(self):
        torch.use_deterministic_algorithms(True, warn_only=True)
        query, key, value = (x.contiguous() for x in self.qkv.split([self.heads, self.kv_heads, self.kv_heads], 1))
        ends = torch.tensor([0] + self.lengths, device="cuda").cumsum(0).int()
        longest = max(self.lengths)
        lengths = (ends, ends, longest, longest, 0.0, True)

        def forward():
            return torch.ops.aten._flash_attention_forward(query, key, value, *lengths, False)

        out, log_sum, seed, offset, _ = forward()

        def backward():
            operands = (self.d_out, query, key, value, out, log_sum)
            return torch.ops.aten._flash_attention_backward(*operands, *lengths, seed, offset)

        return milliseconds(forward), milliseconds(backward)


if __name__ == "__main__":
    print(torch.cuda.get_device_name())
    for shape in [(14, 2, 64), (28, 4, 128)]:
        Attention(*shape, whole([1, 5, 63, 64, 65, 130, 200, 17])).check()
        Attention(*shape, [[70, 3, 200, 1], [64, 64, 64], [5], [1, 130], [129, 7]]).check()
    for shape in [(14, 2, 64, [512] * 64), (14, 2, 64, [1024] * 32), (16, 8, 128, [512] * 64), (28, 4, 128, [2048] * 8)]:
        Attention(*shape[:3], whole(shape[3])).compare()
    for shape in [(14, 2, 64), (28, 4, 128)]:
        Attention(*shape, [[128] + [384] * 8] * 8).compare_shared(128, 384, 8, 8)
