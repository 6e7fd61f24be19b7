"""Writes recording.json: what a worker and PyTorch's TCPStore say to each other when vLLM's StatelessProcessGroup is formed, byte for byte.

    python record.py recording.json        (needs PyTorch; no GPU)

The worker's connection goes through a proxy that writes everything down, once with each of PyTorch's two servers (plain and libuv).
The NCCL id is pickled as vLLM does, as the ctypes structure of its pynccl_wrapper, which need not be installed for that.
"""
import ctypes, datetime, json, pickle, socket, sys, threading, time, types

import torch
import torch.distributed as dist

MODULE = "vllm.distributed.device_communicators.pynccl_wrapper"
for i in range(1, 5):
    sys.modules[".".join(MODULE.split(".")[:i])] = types.ModuleType("stand-in")
NcclUniqueId = type("ncclUniqueId", (ctypes.Structure,), {"__module__": MODULE, "_fields_": [("internal", ctypes.c_byte * 128)]})
sys.modules[MODULE].ncclUniqueId = NcclUniqueId
UNIQUE_ID = bytes(range(100, 228))
PICKLED = pickle.dumps(NcclUniqueId.from_buffer_copy(UNIQUE_ID))


def seconds(s):
    return datetime.timedelta(seconds=s)


def proxy(target, log):
    """A port that leads to `target` and writes down what goes through."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def pump(source, sink, who):
        while data := source.recv(65536):
            log.append([who, data.hex()])
            sink.sendall(data)

    def run():
        worker, _ = listener.accept()
        master = socket.create_connection(("127.0.0.1", target))
        threading.Thread(target=pump, args=(worker, master, "client"), daemon=True).start()
        pump(master, worker, "server")

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def record(libuv, port):
    log, masters = [], []
    master = threading.Thread(target=lambda: masters.append(dist.TCPStore("127.0.0.1", port, 2, True, seconds(60), use_libuv=libuv)))
    master.start()
    time.sleep(1)
    store = dist.TCPStore("127.0.0.1", proxy(port, log), 2, False, seconds(60), use_libuv=libuv)
    master.join()
    threading.Timer(1, lambda: masters[0].set("broadcast_from/0/0", PICKLED)).start()  # the worker waits for it
    results = [store.get("broadcast_from/0/0") == PICKLED]
    store.set("k", "v")
    results += [store.add("n", 3), store.add("n", -5), store.check(["k", "none"]), store.compare_set("c", "", "x").decode(), store.delete_key("k"), store.num_keys()]
    try:
        store.wait(["none"], seconds(0.3))
    except Exception as e:
        results.append(type(e).__name__)
    results.append(store.check(["n"]))
    time.sleep(0.3)
    return results, log


results, log = record(False, 29611)
_, libuv_log = record(True, 29612)
with open(sys.argv[1], "w") as f:
    json.dump({"torch": torch.__version__, "python": sys.version.split()[0], "id": UNIQUE_ID.hex(), "results": results, "log": log, "libuv_log": libuv_log}, f, indent=1)
