// Stand-ins for libcuda, NVRTC and cuBLASLt, as far as SimpleR1 calls them, on the CPU: device memory is host memory,
// "compiling" is g++ with Prelude.cuh of this folder, launches run as fibers. A stream's work is done only when the
// host waits for it, in order: what is read too early, or overwritten too early, shows. Fresh memory holds NaNs.
#include <dlfcn.h>
#include <array>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <vector>
#include "Fibers.h"
#include "Nccl.h"

using std::string;
typedef std::function<void()> Work;

static std::recursive_mutex gate;
#define LOCKED std::lock_guard<std::recursive_mutex> lock(gate)

struct Function
{
    void (*call)(void**);
    int parameters;
    const int* sizes;
    bool copies; // its file has copy_async16
};

/// A launch of a kernel, with its parameters' values.
struct KernelLaunch
{
    Function function;
    unsigned grid[3], block[3], shared;
    bool early; // it may start while the kernel before it ends
    std::vector<std::array<char, 16>> values;
    emulated::EarlyCopies copies;

    void run_until_wait()
    {
        auto addresses = value_addresses();
        copies = emulated::run_until_wait(launch(addresses));
    }
    void run()
    {
        auto addresses = value_addresses();
        emulated::run(launch(addresses), copies);
    }
    std::vector<void*> value_addresses()
    {
        std::vector<void*> addresses;
        for (auto& v : values) addresses.push_back(v.data());
        return addresses;
    }
    emulated::Launch launch(std::vector<void*>& addresses)
    {
        return {function.call, addresses.data(), {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared};
    }
};

/// What a stream has to do: work, a kernel, or something that others do and that it waits for.
struct Item
{
    Work work;
    std::function<bool()> until;
    std::optional<KernelLaunch> kernel;
};
static std::map<void*, std::deque<Item>> queues; // by stream
static std::vector<Item>* capturing;
static void* captured;
static void enqueue(void* stream, Item item)
{
    if (capturing && stream == captured)
        capturing->push_back(std::move(item));
    else
        queues[stream].push_back(std::move(item));
}
static void enqueue(void* stream, Work work) { enqueue(stream, Item{std::move(work), nullptr, {}}); }
void emulated::wait_in_stream(void* stream, std::function<bool()> until)
{
    LOCKED;
    queues[stream].push_back({nullptr, std::move(until), {}});
}
static bool run_one(void* stream)
{
    auto& queue = queues[stream];
    if (queue.empty() || (queue.front().until && !queue.front().until())) return false;
    Item item = std::move(queue.front());
    queue.pop_front();
    if (item.work) item.work();
    if (item.kernel)
    {
        // The next kernel may start before this one has written anything.
        auto* next = queue.empty() || !queue.front().kernel ? nullptr : &*queue.front().kernel;
        if (next && next->early && next->function.copies) next->run_until_wait();
        item.kernel->run();
    }
    return true;
}

struct Event
{
    long recorded = 0, reached = 0;
    void* stream = nullptr;
};
static std::map<void*, size_t> allocations;
static size_t used, total = 1ull << 30;

/// Memory of 2 MiB or more lies in a file without a name, which other processes of the machine can map.
struct MemoryFile
{
    int process, descriptor;
    size_t bytes;
    unsigned long long number; // of the file: process ids and descriptors are used again
};
static std::map<void*, MemoryFile> files;  // of this process's memory
static std::map<void*, size_t> mapped;     // other processes' memory
static size_t shareable = 2 << 20;

static void* map_file(int descriptor, size_t n)
{
    void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    return p == MAP_FAILED ? nullptr : p;
}
static bool refuses(const char* call) // as drivers do in some containers, or on a part of a GPU
{
    const char* refused = getenv("EMULATED_IPC_REFUSES");
    return refused && !strcmp(refused, call);
}

/// Each kernel is a separate library and uses the fibers of this one: its symbols must be visible to them.
__attribute__((constructor)) static void show_symbols()
{
    Dl_info self;
    if (dladdr((void*)&show_symbols, &self)) dlopen(self.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

extern "C"
{
    int cuInit(unsigned) { return 0; }
    int cuDriverGetVersion(int* v)
    {
        *v = 13000;
        return 0;
    }
    int cuGetErrorName(int e, const char** name)
    {
        *name = e == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_EMULATED";
        return 0;
    }
    int cuGetErrorString(int, const char** text)
    {
        *text = "of the emulator";
        return 0;
    }
    int cuDeviceGetCount(int* n)
    {
        *n = 1;
        return 0;
    }
    int cuDeviceGet(int* d, int)
    {
        *d = 0;
        return 0;
    }
    int cuDeviceGetName(char* name, int n, int)
    {
        snprintf(name, n, "emulated GPU");
        return 0;
    }
    int cuDeviceGetUuid_v2(void* uuid, int) // another GPU each time it is opened, for groups take each once, or one GPU
    {
        memset(uuid, 1, 16);
        return getenv("EMULATED_ONE_GPU") || getrandom(uuid, 16, 0) == 16 ? 0 : 999;
    }
    int cuDeviceGetAttribute(int* v, int attribute, int)
    {
        *v = attribute == 16 ? 2 : attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 97 ? 232448 : 233472;
        return 0;
    }
    int cuDevicePrimaryCtxRetain(void** c, int)
    {
        *c = (void*)1;
        return 0;
    }
    int cuCtxSetCurrent(void*) { return 0; }
    int cuMemGetInfo_v2(size_t* free, size_t* all)
    {
        LOCKED;
        *free = total - used;
        *all = total;
        return 0;
    }
    int cuMemAlloc_v2(void** p, size_t n)
    {
        LOCKED;
        if (used + n > total) return 2;
        if (n < shareable)
            *p = aligned_alloc(256, (n + 255) / 256 * 256);
        else
        {
            int file = memfd_create("emulated-gpu", MFD_CLOEXEC);
            struct stat status;
            if (file < 0 || ftruncate(file, n) || fstat(file, &status) || !(*p = map_file(file, n))) return 999;
            files[*p] = {getpid(), file, n, status.st_ino};
        }
        memset(*p, 0xff, n);
        used += allocations[*p] = n;
        return 0;
    }
    int cuMemFree_v2(void* p)
    {
        LOCKED;
        used -= allocations.at(p);
        if (auto file = files.find(p); file != files.end())
        {
            munmap(p, file->second.bytes);
            close(file->second.descriptor);
            files.erase(file);
        }
        else
            free(p);
        allocations.erase(p);
        return 0;
    }
    int cuMemGetAddressRange_v2(void** start, size_t* n, void* p)
    {
        LOCKED;
        for (auto* memory : {&allocations, &mapped})
            for (auto& [at, size] : *memory)
                if (p >= at && p < (char*)at + size)
                {
                    *start = at;
                    *n = size;
                    return 0;
                }
        return 500;
    }

    struct IpcMemoryHandle
    {
        MemoryFile file;
        char unused[64 - sizeof(MemoryFile)];
    };
    int cuIpcGetMemHandle(IpcMemoryHandle* handle, void* p)
    {
        LOCKED;
        if (refuses("get")) return 801;
        if (!files.count(p)) return 1;
        memset(handle, 0, sizeof *handle);
        handle->file = files[p];
        return 0;
    }
    int cuIpcOpenMemHandle_v2(void** p, IpcMemoryHandle handle, unsigned flags)
    {
        LOCKED;
        auto& of = handle.file;
        if (refuses("open")) return 801;
        if (of.process == getpid()) return 201; // as a driver does: a process has its own memory
        string path = "/proc/" + std::to_string(of.process) + "/fd/" + std::to_string(of.descriptor);
        int file = open(path.c_str(), O_RDWR | O_CLOEXEC);
        struct stat status;
        if (flags != 1 || file < 0 || fstat(file, &status) || status.st_ino != of.number) return 1;
        *p = map_file(file, of.bytes);
        close(file);
        if (!*p) return 2;
        mapped[*p] = of.bytes;
        return 0;
    }
    int cuIpcCloseMemHandle(void* p)
    {
        LOCKED;
        if (!mapped.count(p)) return 1;
        munmap(p, mapped[p]);
        mapped.erase(p);
        return 0;
    }
    int cuMemHostAlloc(void** p, size_t n, unsigned)
    {
        *p = aligned_alloc(256, (n + 255) / 256 * 256);
        memset(*p, 0xff, n);
        return 0;
    }
    int cuMemFreeHost(void* p)
    {
        free(p);
        return 0;
    }
    static int copy(void* to, const void* from, size_t n, void* stream)
    {
        LOCKED;
        enqueue(stream, [=] { memmove(to, from, n); });
        return 0;
    }
    int cuMemcpyHtoDAsync_v2(void* to, const void* from, size_t n, void* s) { return copy(to, from, n, s); }
    int cuMemcpyDtoHAsync_v2(void* to, const void* from, size_t n, void* s) { return copy(to, from, n, s); }
    int cuMemcpyDtoDAsync_v2(void* to, const void* from, size_t n, void* s) { return copy(to, from, n, s); }
    int cuMemsetD8Async(void* p, unsigned char v, size_t n, void* s)
    {
        LOCKED;
        enqueue(s, [=] { memset(p, v, n); });
        return 0;
    }
    int cuStreamCreate(void** s, unsigned)
    {
        LOCKED;
        *s = (void*)(queues.size() + 1);
        queues[*s];
        return 0;
    }
    int cuStreamSynchronize(void* s)
    {
        for (;; usleep(100))
        {
            LOCKED;
            while (run_one(s))
            {
            }
            if (queues[s].empty()) return 0;
        }
    }
    int cuEventCreate(Event** e, unsigned)
    {
        *e = new Event;
        return 0;
    }
    int cuEventDestroy_v2(Event*) { return 0; } // the object stays: a stream may still come to where it was recorded
    int cuEventRecord(Event* e, void* s)
    {
        LOCKED;
        long number = ++e->recorded;
        e->stream = s;
        enqueue(s, [=] { e->reached = number; });
        return 0;
    }
    int cuEventSynchronize(Event* e)
    {
        for (;; usleep(100))
        {
            LOCKED;
            while (e->reached < e->recorded && run_one(e->stream))
            {
            }
            if (e->reached == e->recorded) return 0;
        }
    }
    int cuEventQuery(Event* e)
    {
        LOCKED;
        if (e->reached < e->recorded) run_one(e->stream);
        return e->reached < e->recorded ? 600 : 0;
    }
    int cuEventElapsedTime(float* ms, Event*, Event*)
    {
        *ms = 1;
        return 0;
    }

    int cuModuleLoadData(void** module, const char* image)
    {
        size_t n;
        memcpy(&n, image, sizeof n);
        char path[] = "/tmp/emulated-kernel-XXXXXX";
        int file = mkstemp(path);
        if (file < 0 || write(file, image + sizeof n, n) != (ssize_t)n) return 1;
        close(file);
        *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!*module) fprintf(stderr, "emulator: %s\n", dlerror());
        unlink(path);
        return *module ? 0 : 1;
    }
    int cuModuleUnload(void*) { return 0; }
    int cuModuleGetFunction(Function** f, void* module, const char* name)
    {
        auto call = (void (*)(void**))dlsym(module, (string("emulated_call_") + name).c_str());
        if (!call) return 500;
        auto sizes = (const int* (*)(int*))dlsym(module, (string("emulated_sizes_") + name).c_str());
        *f = new Function{call, 0, nullptr, dlsym(module, "emulated_copies") != nullptr};
        (*f)->sizes = sizes(&(*f)->parameters);
        return 0;
    }
    int cuFuncSetAttribute(void*, int, int) { return 0; }
    int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, void*, int, size_t)
    {
        *n = 2;
        return 0;
    }

    struct LaunchConfig
    {
        unsigned grid[3], block[3], shared;
        void* stream;
        void* attributes;
        unsigned count;
    };
    int cuLaunchKernelEx(const LaunchConfig* config, Function* f, void** parameters, void**)
    {
        LOCKED;
        auto& c = *config;
        KernelLaunch launch = {
            *f, {c.grid[0], c.grid[1], c.grid[2]}, {c.block[0], c.block[1], c.block[2]}, c.shared, c.count > 0, {}, {}};
        launch.values.resize(f->parameters);
        for (int i = 0; i < f->parameters; i++) memcpy(launch.values[i].data(), parameters[i], f->sizes[i]);
        enqueue(c.stream, Item{nullptr, nullptr, std::move(launch)});
        return 0;
    }

    int cuStreamBeginCapture_v2(void* s, int)
    {
        LOCKED;
        captured = s;
        capturing = new std::vector<Item>;
        return 0;
    }
    int cuStreamEndCapture(void*, void** graph)
    {
        LOCKED;
        *graph = capturing;
        capturing = nullptr;
        return 0;
    }
    int cuGraphInstantiateWithFlags(void** executable, void* graph, unsigned long long)
    {
        *executable = new std::vector<Item>(*(std::vector<Item>*)graph);
        return 0;
    }
    int cuGraphDestroy(void* graph)
    {
        delete (std::vector<Item>*)graph;
        return 0;
    }
    int cuGraphExecDestroy(void* graph) { return cuGraphDestroy(graph); }
    int cuGraphLaunch(void* graph, void* s)
    {
        LOCKED;
        for (auto& item : *(std::vector<Item>*)graph) enqueue(s, item);
        return 0;
    }

    // ---- NVRTC: g++

    /// A folder with Prelude.cuh as g++ has read it, beside this library: most of a kernel's compilation is reading it.
    static const string& precompiled(const string& compiler)
    {
        static const string folder = [&]
        {
            Dl_info self;
            dladdr((void*)&show_symbols, &self);
            string at = string(self.dli_fname) + ".headers", header = at + "/Prelude.cuh.gch",
                   mine = header + "." + std::to_string(getpid()); // several processes may start at once
            mkdir(at.c_str(), 0777);
            if (access(header.c_str(), R_OK) != 0 &&
                system((compiler + " -x c++-header " EMULATOR_FOLDER "/Prelude.cuh -o " + mine).c_str()) == 0)
                rename(mine.c_str(), header.c_str());
            return at;
        }();
        return folder; // without the file g++ takes the header itself
    }

    struct Program
    {
        string source, name, image, log;
        std::map<string, string> headers;
    };
    int nvrtcVersion(int* major, int* minor)
    {
        *major = 0;
        *minor = EMULATOR_VERSION;
        return 0;
    }
    const char* nvrtcGetErrorString(int) { return "emulated NVRTC error"; }
    int nvrtcCreateProgram(
        Program** p, const char* source, const char* name, int n, const char** texts, const char** names
    )
    {
        *p = new Program{source, name, "", "", {}};
        for (int i = 0; i < n; i++)
            if (string(names[i]) != "Prelude.cuh") (*p)->headers[names[i]] = texts[i];
        return 0;
    }
    int nvrtcCompileProgram(Program* p, int n, const char** options)
    {
        char folder[] = "/tmp/emulated-nvrtc-XXXXXX";
        if (!mkdtemp(folder)) return 1;
        const string compiler = "g++ -std=c++20 -O2 -fPIC -w";
        string at = folder,
               command = compiler + " -x c++ -shared -I" + at + " -I" + precompiled(compiler) + " -I" EMULATOR_FOLDER;
        for (int i = 0; i < n; i++)
            if (!strncmp(options[i], "-D", 2)) command += string(" '") + options[i] + "'";
        for (auto& h : p->headers) std::ofstream(at + "/" + h.first) << h.second;
        std::ofstream source(at + "/" + p->name);
        source << p->source << "\n";
        // For each kernel a function that takes its parameters by address, and one that tells their sizes. Kernels
        // made by macros are found by name.
        std::stringstream text(p->source);
        std::vector<string> kernels;
        for (string line; std::getline(text, line);)
        {
            size_t begin = line.find("extern \"C\" __global__ void "), end;
            if (begin == 0 && line.back() != '\\')
            {
                begin += 27;
                if (line.compare(begin, 17, "__launch_bounds__") == 0)
                {
                    if (string next; line.back() == ')' && std::getline(text, next)) // the name is on the next line
                        line += ' ' + next.substr(next.find_first_not_of(' '));
                    begin = line.find(") ", begin) + 2;
                }
                if ((end = line.find('(', begin)) != string::npos) kernels.push_back(line.substr(begin, end - begin));
            }
            else if (line.rfind("SMALL_", 0) == 0) // made by a macro of that name
            {
                begin = line.find('(') + 1;
                kernels.push_back(line.substr(begin, line.find(',') - begin));
            }
        }
        source << "#include \"Calls.h\"\n";
        if (p->source.find("copy_async16(") != string::npos) source << "extern \"C\" { int emulated_copies; }\n";
        for (auto& k : kernels) source << "EMULATED_CALL(" << k << ")\n";
        source.close();
        command += " -o " + at + "/kernel.so " + at + "/" + p->name + " 2> " + at + "/log";
        int result = system(command.c_str());
        auto read = [](const string& path)
        {
            std::ifstream f(path, std::ios::binary);
            std::stringstream s;
            s << f.rdbuf();
            return s.str();
        };
        p->log = read(at + "/log");
        if (result == 0)
        {
            string so = read(at + "/kernel.so");
            size_t size = so.size();
            p->image = string((char*)&size, sizeof size) + so;
        }
        (void)!system(("rm -r " + at).c_str());
        return result == 0 ? 0 : 6;
    }
    int nvrtcGetCUBINSize(Program* p, size_t* n)
    {
        *n = p->image.size();
        return 0;
    }
    int nvrtcGetCUBIN(Program* p, char* to)
    {
        memcpy(to, p->image.data(), p->image.size());
        return 0;
    }
    int nvrtcGetProgramLogSize(Program* p, size_t* n)
    {
        *n = p->log.size() + 1;
        return 0;
    }
    int nvrtcGetProgramLog(Program* p, char* to)
    {
        memcpy(to, p->log.c_str(), p->log.size() + 1);
        return 0;
    }
    int nvrtcDestroyProgram(Program** p)
    {
        delete *p;
        *p = nullptr;
        return 0;
    }

    // ---- cuBLASLt: three loops

    struct Matmul
    {
        int transpose_a = 0, transpose_b = 0, epilogue = 1, bias_type = 0;
        const void* bias = nullptr;
    };
    struct Layout
    {
        int type;
        unsigned long long rows, columns;
        long long leading;
    };
    const char* cublasLtGetStatusString(int) { return "emulated cuBLASLt error"; }
    size_t cublasLtGetVersion() { return 0; }
    int cublasLtCreate(void** h)
    {
        *h = (void*)1;
        return 0;
    }
    int cublasLtDestroy(void*) { return 0; }
    int cublasLtMatmulDescCreate(Matmul** d, int, int)
    {
        *d = new Matmul;
        return 0;
    }
    int cublasLtMatmulDescDestroy(Matmul* d)
    {
        delete d;
        return 0;
    }
    int cublasLtMatmulDescSetAttribute(Matmul* d, int attribute, const void* value, size_t)
    {
        if (attribute == 3) memcpy(&d->transpose_a, value, 4);
        if (attribute == 4) memcpy(&d->transpose_b, value, 4);
        if (attribute == 7) memcpy(&d->epilogue, value, 4);
        if (attribute == 8) memcpy(&d->bias, value, 8);
        if (attribute == 26) memcpy(&d->bias_type, value, 4);
        return 0;
    }
    int cublasLtMatrixLayoutCreate(
        Layout** l, int type, unsigned long long rows, unsigned long long columns, long long leading
    )
    {
        *l = new Layout{type, rows, columns, leading};
        return 0;
    }
    int cublasLtMatrixLayoutDestroy(Layout* l)
    {
        delete l;
        return 0;
    }
    int cublasLtMatmulPreferenceCreate(void** p)
    {
        *p = nullptr;
        return 0;
    }
    int cublasLtMatmulPreferenceDestroy(void*) { return 0; }
    int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return 0; }
    int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* result, int* found)
    {
        memset(result, 0, 96);
        *found = 1;
        return 0;
    }

    static float element(const void* p, int type, size_t i)
    {
        if (type == 0) return ((const float*)p)[i];
        if (type == 2) return (float)((const _Float16*)p)[i];
        unsigned bits = (unsigned)((const unsigned short*)p)[i] << 16;
        float x;
        memcpy(&x, &bits, 4);
        return x;
    }
    static void set(void* p, int type, size_t i, float x)
    {
        if (type == 0)
            ((float*)p)[i] = x;
        else if (type == 2)
            ((_Float16*)p)[i] = (_Float16)x;
        else
        {
            unsigned b;
            memcpy(&b, &x, 4);
            ((unsigned short*)p)[i] = std::isnan(x) ? 0x7fff : (unsigned short)((b + 0x7fff + (b >> 16 & 1)) >> 16);
        }
    }
    /// The matrix, or its transposed, in f32 without gaps, one column after another.
    static std::vector<float> columns_of(const void* p, const Layout& l, bool transposed)
    {
        std::vector<float> found;
        for (size_t i = 0; i < (transposed ? l.rows : l.columns); i++)
            for (size_t k = 0; k < (transposed ? l.columns : l.rows); k++)
                found.push_back(element(p, l.type, transposed ? k * l.leading + i : i * l.leading + k));
        return found;
    }
    int cublasLtMatmul(
        void*, const Matmul* d, const float*, const void* a, const Layout* la, const void* b, const Layout* lb,
        const float* beta, const void*, const Layout*, void* y, const Layout* ly, const void*, void*, size_t,
        void* stream
    )
    {
        LOCKED;
        Matmul desc = *d;
        Layout A = *la, B = *lb, Y = *ly;
        float keep = *beta;
        enqueue(
            stream,
            [=]
            {
                // Column o of the left factor transposed, and column r of the right one, are multiplied.
                std::vector<float> left = columns_of(a, A, !desc.transpose_a),
                                   right = columns_of(b, B, desc.transpose_b);
                size_t length = desc.transpose_a ? A.rows : A.columns;
                for (size_t r = 0; r < Y.columns; r++)
                    for (size_t o = 0; o < Y.rows; o++)
                    {
                        float sum = 0;
                        for (size_t k = 0; k < length; k++) sum += right[r * length + k] * left[o * length + k];
                        if (desc.epilogue == 4) sum += element(desc.bias, desc.bias_type, o);
                        if (keep != 0) sum += keep * element(y, Y.type, r * Y.leading + o);
                        set(y, Y.type, r * Y.leading + o, sum);
                    }
            }
        );
        return 0;
    }
}
