# Source this on the GPU machine: it lets the loader find the libraries of the PyTorch that python3 imports.
torch=$(python3 -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("torch").origin))')
export LD_LIBRARY_PATH="$torch/lib:$(ls -d "$torch"/../nvidia/*/lib | tr '\n' ':')${LD_LIBRARY_PATH:-}"
export NCCL_NVLS_ENABLE=0 # NVLink multicast stays off
