"""The optimizer step of `simple-r1 bench train` in plain PyTorch with transformers, on the same shape.

`simple-r1 bench train MODEL --peer eager|compile|all` runs it after its own measurement. By hand, on a machine with a
GPU, PyTorch and transformers (the folder holds a config.json; the weights are random):

    python3 benchmarks/peers/transformers_train.py FOLDER --variant compile --sequences 64 --length 512 --prompt 128

What it computes: parameters, gradients and both moments in the config's type (bf16), one fused torch.optim.AdamW, as
users of TRL train by default in bf16. SimpleR1's step has more to do: its weights are exact to f32, its gradients and
moments are f32. A step here is, for each micro-batch, the log-probs of the completions' tokens (logits of these rows
only), GRPO's clipped loss with one random advantage a sequence, and backward; then clip_grad_norm_(1.0) and AdamW.
Nothing is padded, all sequences have one length. Attention is FlashAttention-2 if the package is there, else
PyTorch's scaled_dot_product_attention. `compile` puts model and log-probs into one torch.compile.

Prints one line of JSON on standard output.
"""
import argparse
import gc
import importlib
import json
import os
import statistics
import sys
import threading
import time


def load(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        sys.exit(
            f"{sys.executable} cannot import {name}: {error}. The comparison needs PyTorch with CUDA and transformers: "
            f"{sys.executable} -m pip install torch transformers, or name a Python that has them by --python"
        )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="holds the model's config.json")
    parser.add_argument("--variant", choices=["eager", "compile"], default="eager")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--length", type=int, default=512, help="tokens of a sequence, prompt included")
    parser.add_argument("--prompt", type=int, default=128, help="tokens at the beginning that are not trained")
    parser.add_argument("--micro-batch", type=int, default=64, help="sequences at once; halved until they fit")
    parser.add_argument("--checkpointing", action="store_true", help="compute layers again in the backward pass")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--end-with-input", action="store_true", help="end when standard input does")
    return parser.parse_args()


def end_with_input():
    """The program that started this one holds the other end: when that program dies, this one must not keep the GPU."""

    def wait():
        while os.read(0, 4096):  # sys.stdin has a lock that the interpreter needs at its end
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def largest_divisor(number, limit):
    """Micro-batches are equally large, so that torch.compile sees one shape."""
    return next(size for size in range(max(1, min(number, limit)), 0, -1) if number % size == 0)


class Step:
    """A model of the config's shape with its optimizer, and one step of training."""

    def __init__(self, options, torch, transformers):
        self.options, self.torch = options, torch
        config = transformers.AutoConfig.from_pretrained(options.folder)
        flash = transformers.utils.is_flash_attn_2_available()
        self.attention = "flash_attention_2" if flash else "sdpa"
        torch.manual_seed(1)
        with torch.device(options.device):
            self.model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=self.attention)
        self.model.to(options.device).train()
        if options.checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, weight_decay=0.0, fused=True)

        shape = (options.sequences, options.length)
        self.tokens = torch.randint(0, config.vocab_size, shape, device=options.device)
        self.advantages = 2 * torch.rand(options.sequences, 1, device=options.device) - 1  # [n, 1]

    def use_micro_batches_of(self, sequences):
        self.size = sequences
        self.forward = self.log_probs
        if self.options.variant == "compile":
            self.torch._dynamo.reset()  # what was compiled for another size
            self.forward = self.torch.compile(self.log_probs, dynamic=False)

    def log_probs(self, tokens):
        """Of the tokens after the prompt: [n, length] ids -> [n, length - prompt], in f32."""
        trained = self.options.length - self.options.prompt
        logits = self.model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=trained).logits
        chosen = tokens[:, -trained:]
        loss = self.torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), chosen.flatten(), reduction="none")
        return -loss.view_as(chosen)

    def run(self):
        options, torch = self.options, self.torch
        count = options.sequences * (options.length - options.prompt)
        for first in range(0, options.sequences, self.size):
            log_probs = self.forward(self.tokens[first : first + self.size])
            ratio = (log_probs - log_probs.detach()).exp()
            advantages = self.advantages[first : first + self.size]
            clipped = ratio.clamp(0.8, 1.2)
            loss = -torch.minimum(ratio * advantages, clipped * advantages).sum() / count
            loss.backward()
            self.loss = loss.detach()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def fits(self):
        """Whether a step finds enough memory."""
        try:
            self.run()
            self.torch.cuda.synchronize()
            return True
        except self.torch.cuda.OutOfMemoryError:
            return False

    def find_size(self):
        """The largest micro-batch of those asked for, and halves of it, that fits."""
        options = self.options
        size = largest_divisor(options.sequences, options.micro_batch)
        self.use_micro_batches_of(size)
        while not self.fits():
            if size == 1:
                sys.exit("out of GPU memory with one sequence at a time: a shorter --length or a smaller model fits")
            self.optimizer.zero_grad(set_to_none=True)
            gc.collect()
            self.torch.cuda.empty_cache()
            size = largest_divisor(options.sequences, size // 2)
            self.use_micro_batches_of(size)


def measure(step, options, torch):
    seconds = []
    for repeat in range(-options.warm_up, options.repeats):
        if repeat == 0:
            torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
        start = time.perf_counter()
        step.run()
        torch.cuda.synchronize()
        if repeat >= 0:
            seconds.append(time.perf_counter() - start)
    return seconds


def main():
    options = arguments()
    if not 0 < options.prompt < options.length:
        sys.exit(f"--prompt: expected 1 to {options.length - 1} (one less than --length), found {options.prompt}")
    if options.end_with_input:
        end_with_input()
    torch, transformers = load("torch"), load("transformers")
    if not torch.cuda.is_available():
        sys.exit(f"PyTorch {torch.__version__} of {sys.executable} finds no GPU: install a build with CUDA")

    torch.cuda.set_device(options.device)
    torch.set_float32_matmul_precision("high")
    step = Step(options, torch, transformers)
    step.find_size()
    seconds = measure(step, options, torch)
    if not step.loss.isfinite().item():
        sys.exit(f"the loss is {step.loss.item()}: the time of such a step says nothing")
    median = statistics.median(seconds)
    result = {
        "variant": options.variant,
        "step_seconds": median,
        "least_step_seconds": min(seconds),
        "most_step_seconds": max(seconds),
        "tokens_per_second": options.sequences * (options.length - 1) / median,
        "peak_allocated_gib": torch.cuda.max_memory_allocated() / 2**30,
        "peak_reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
        "micro_batch": step.size,
        "asked_micro_batch": largest_divisor(options.sequences, options.micro_batch),
        "attention": step.attention,
        "type": str(next(step.model.parameters()).dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
