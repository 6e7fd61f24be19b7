"""How long the original Simple-R1 takes to send Qwen2.5-0.5B's weights to one inference worker.

For each parameter it makes a call that announces the parameter, an f32 broadcast by NCCL, a copy to the parameter's
place, and the call's answer. Gloo stands in for Ray's calls, which are slower. Needs two GPUs and PyTorch; no weights:

    NCCL_NVLS_ENABLE=0 python3 benchmarks/peers/original_sync.py [rounds]
"""
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist

HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD, VOCABULARY = 896, 4864, 24, 14, 2, 64, 151936


def shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for i in range(LAYERS):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (HIDDEN,)
        yield layer + "post_attention_layernorm.weight", (HIDDEN,)
        for name, outputs in (("q", HEADS * HEAD), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)):
            yield f"{layer}self_attn.{name}_proj.weight", (outputs, HIDDEN)
            yield f"{layer}self_attn.{name}_proj.bias", (outputs,)
        yield layer + "self_attn.o_proj.weight", (HIDDEN, HEADS * HEAD)
        yield layer + "mlp.gate_proj.weight", (INTERMEDIATE, HIDDEN)
        yield layer + "mlp.up_proj.weight", (INTERMEDIATE, HIDDEN)
        yield layer + "mlp.down_proj.weight", (HIDDEN, INTERMEDIATE)
    yield "model.norm.weight", (HIDDEN,)


def original(rank, weights, calls):
    for name, tensor in weights.items():
        message = [(name, torch.float32, tuple(tensor.shape))]
        dist.broadcast_object_list(message, src=0, group=calls)
        if rank == 0:
            dist.broadcast(tensor, src=0)
        else:
            name, dtype, shape = message[0]
            received = torch.empty(shape, dtype=dtype, device="cuda")
            dist.broadcast(received, src=0)
            weights[name].copy_(received)
        dist.barrier(group=calls)


def per_parameter(weights):
    for tensor in weights.values():
        dist.broadcast(tensor, src=0)


def measure(rank, name, rounds, size, action):
    times = []
    for round in range(rounds + 2):
        torch.cuda.synchronize()
        dist.barrier()
        torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        torch.cuda.synchronize()
        if round >= 2:
            times.append(time.perf_counter() - start)
    if rank == 0:
        seconds = statistics.median(times)
        print(f"{name}: {1e3 * seconds:.2f} ms, {size / seconds / 1e9:.1f} GB/s", flush=True)


def run(rank, rounds):
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", rank=rank, world_size=2, device_id=torch.device("cuda", rank))
    calls = dist.new_group(backend="gloo")
    held = torch.float32 if rank == 0 else torch.bfloat16  # the trainer's type, the worker's type
    full = {name: torch.zeros(shape, device="cuda", dtype=held) for name, shape in shapes()}
    half = {name: torch.zeros(shape, device="cuda", dtype=torch.bfloat16) for name, shape in shapes()}
    count = sum(tensor.numel() for tensor in full.values())
    flat = torch.zeros(count, device="cuda", dtype=torch.bfloat16)
    if rank == 0:
        setting = f"PyTorch {torch.__version__}, median of {rounds}"
        print(f"{count / 1e6:.1f} M parameters in {len(full)} tensors, {setting}", flush=True)
    way = "the original's way (a call, an f32 broadcast and a copy for each)"
    measure(rank, way, rounds, 4 * count, lambda: original(rank, full, calls))
    measure(rank, "per parameter, bf16", rounds, 2 * count, lambda: per_parameter(half))
    measure(rank, "one flat bf16 broadcast", rounds, 2 * count, lambda: dist.broadcast(flat, src=0))
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29513")
    torch.multiprocessing.spawn(run, args=(int(sys.argv[1]) if len(sys.argv) > 1 else 9,), nprocs=2)
