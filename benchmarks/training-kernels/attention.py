"""Attention of packed sequences, forward and backward: against float64, and next to PyTorch's FlashAttention-2; with
prompts that samples share, next to the same samples with a prompt each.

python3 benchmarks/training-kernels/attention.py      (needs a GPU, nvcc and PyTorch; a minute)
"""
import torch

from kernels import Kernels, difference, milliseconds

KEYS = 64  # of a tile
ROWS = 64  # of a block
ADDING = 256  # threads that add up parts


class Work:
    """What each block computes, as Cuda/Operations/PackedItems.cs has it."""

    def __init__(self, families, group):
        self.rows, self.keys, self.sums = [], [], []
        longest = max([32 * ROWS // group] + [tokens for family in families for tokens in family])
        first = self.parts = 0
        for family in families:
            prefix_first, end = first, first + sum(family)
            for member, tokens in enumerate(family):
                before = family[0] if member else 0
                for row in range(0, tokens * group, ROWS):
                    self.rows.append((first, tokens, row, before, prefix_first, 0, 0, 0))
                self.add_keys(first, tokens, (first + tokens if member else end) - first, longest)
                first += tokens
        self.tokens = first
        self.rows.sort(key=lambda tile: -(tile[3] * group + tile[2]))  # the longest first
        self.keys.sort(key=lambda tile: tile[3] - tile[4])

    def add_keys(self, first, tokens, end, longest):
        for key in range(0, tokens, KEYS):
            walked = -(-(end - key) // -(-(end - key) // longest))
            parts = -(-(end - key) // walked)
            if parts > 1:
                self.sums.append((first + key, min(KEYS, tokens - key), self.parts, parts))
            for walk in range(key, end, walked):
                part = self.parts if parts > 1 else -1
                self.keys.append((first, tokens, key, walk, min(walk + walked, end), part, 0, 0))
                self.parts += parts > 1


class Attention:
    """One shape, compiled. Each family is the tokens of a prompt, then those that each of its samples has after it."""

    def __init__(self, heads, kv_heads, dimension, families):
        self.heads, self.kv_heads, self.dimension, self.families = heads, kv_heads, dimension, families
        macros = dict(ELEMENT="bf16", HEAD_DIM=dimension, GROUP=heads // kv_heads, KV_HEADS=kv_heads)
        self.forward_kernels = Kernels("PackedAttention.cu", **macros)
        self.backward_kernels = Kernels("PackedAttentionGradient.cu", **macros)
        work = Work(families, heads // kv_heads)
        first = self.tokens = work.tokens
        self.rows, self.keys, self.sums = (
            torch.tensor(items, dtype=torch.int32, device="cuda") for items in (work.rows, work.keys, work.sums)
        )
        self.parts = torch.full((work.parts, kv_heads, 2, KEYS, dimension), float("nan"), device="cuda")
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
        arguments = (self.qkv, self.d_out, self.log_sum, self.delta, self.d_qkv, self.parts, self.keys, scale)
        self.backward_kernels.launch("packed_attention_key_gradient", grid, 2 * KEYS, *arguments, shared=shared)
        if len(self.sums):
            grid = (len(self.sums), self.kv_heads * 2 * KEYS * self.dimension // 4 // ADDING)
            arguments = (self.parts, self.d_qkv, self.sums, scale)
            self.backward_kernels.launch("packed_attention_add_parts", grid, ADDING, *arguments)

    def reference(self):
        """Output and gradient in float64, by PyTorch's autograd: every sample is computed from its prompt's first token."""
        qkv = self.qkv.double().requires_grad_(True)
        outputs, first = [], 0
        for family in self.families:
            prompt = qkv[first : first + family[0]]
            for member, tokens in enumerate(family):
                part = qkv[first : first + tokens]
                whole = torch.cat([prompt, part]) if member else part
                outputs.append(self.plain(whole)[-tokens:])
                first += tokens
        out = torch.cat(outputs)
        out.backward(self.d_out.double())
        return out.detach(), qkv.grad

    def plain(self, qkv):
        """One sequence."""
        length, group = len(qkv), self.heads // self.kv_heads
        query = qkv[:, : self.heads].transpose(0, 1)
        key, value = qkv[:, self.heads :].split(self.kv_heads, 1)
        key = key.repeat_interleave(group, 1).transpose(0, 1)
        value = value.repeat_interleave(group, 1).transpose(0, 1)
        score = (query @ key.transpose(1, 2)) * self.dimension**-0.5
        hidden = torch.ones(length, length, device="cuda", dtype=torch.bool).triu(1)
        return (score.masked_fill(hidden, float("-inf")).softmax(-1) @ value).transpose(0, 1)

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
            f"d {self.dimension}, {len(self.families)} families: relative difference from float64: "
            f"output {difference(self.out, out):.1e}, "
            f"gradient {difference(self.d_qkv, gradient):.1e}; the same bits twice: {same}"
        )

    def milliseconds(self):
        """Forward, backward, both."""
        forward, backward = milliseconds(self.forward), milliseconds(self.backward)
        return forward, backward, forward + backward

    def compare(self):
        """With FlashAttention-2, where no prompt is shared."""
        forward, backward, ours = self.milliseconds()
        flash_forward, flash_backward = self.flash()
        flash = flash_forward + flash_backward
        print(
            f"{len(self.families)} x {self.families[0][0]} tokens, {self.heads}/{self.kv_heads} heads, "
            f"d {self.dimension}: ours {forward:.3f} + {backward:.3f} = {ours:.3f} ms, FlashAttention-2 (deterministic) "
            f"{flash_forward:.3f} + {flash_backward:.3f} = {flash:.3f} ms, ratio {ours / flash:.2f}"
        )

    def flash(self):
        torch.use_deterministic_algorithms(True, warn_only=True)
        query, key, value = (x.contiguous() for x in self.qkv.split([self.heads, self.kv_heads, self.kv_heads], 1))
        sequences = [length for length, in self.families]
        ends = torch.tensor([0] + sequences, device="cuda").cumsum(0).int()
        longest = max(sequences)
        lengths = (ends, ends, longest, longest, 0.0, True)

        def forward():
            return torch.ops.aten._flash_attention_forward(query, key, value, *lengths, False)

        out, log_sum, seed, offset, _ = forward()

        def backward():
            operands = (self.d_out, query, key, value, out, log_sum)
            return torch.ops.aten._flash_attention_backward(*operands, *lengths, seed, offset)

        return milliseconds(forward), milliseconds(backward)


def compare_sharing(shape, prompts, samples, prompt, answer):
    """Samples that share prompts, and the same with a prompt each."""
    shared = Attention(*shape, [[prompt] + [answer] * samples] * prompts)
    shared.check()
    forward, backward, once = shared.milliseconds()
    heads, kv_heads, dimension = shape
    apart_forward, apart_backward, apart = Attention(*shape, [[prompt + answer]] * prompts * samples).milliseconds()
    print(
        f"{prompts} prompts of {prompt} tokens x {samples} answers of {answer}, {heads}/{kv_heads} heads, d {dimension}: "
        f"shared {forward:.3f} + {backward:.3f} = {once:.3f} ms, a prompt each "
        f"{apart_forward:.3f} + {apart_backward:.3f} = {apart:.3f} ms, ratio {once / apart:.2f}"
    )


if __name__ == "__main__":
    print(torch.cuda.get_device_name())
    for shape in [(14, 2, 64), (28, 4, 128)]:
        Attention(*shape, [[length] for length in [1, 5, 63, 64, 65, 130, 200, 17]]).check()
        Attention(*shape, [[1, 3, 130], [64, 1, 65], [7], [100, 63, 300, 300, 2, 300], [65, 64]]).check()
    for shape in [(14, 2, 64, [512] * 64), (14, 2, 64, [1024] * 32), (16, 8, 128, [512] * 64), (28, 4, 128, [2048] * 8)]:
        Attention(*shape[:3], [[length] for length in shape[3]]).compare()
    for shape in [(14, 2, 64), (16, 8, 128)]:
        compare_sharing(shape, 8, 8, 128, 384)
        compare_sharing(shape, 2, 16, 512, 1024)
