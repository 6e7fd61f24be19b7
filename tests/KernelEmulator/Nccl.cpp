// A stand-in for NCCL's control paths, as far as SimpleR1 calls them: processes that join a group, broadcasts in a
// stream's order, errors, aborts. Bytes go over loopback TCP through rank 0. It says nothing about NCCL's speed. Its
// environment variables: EMULATED_NCCL_DELAY_US, a pause after each 64 KiB sent; EMULATED_NCCL_SILENT, a lost peer is
// no error, as in a kernel that waits forever.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#include "Nccl.h"

enum
{
    Success = 0,
    SystemError = 2,
    InvalidArgument = 4,
    RemoteError = 6,
    InProgress = 7
};
static const int Magic = 0x4c43434e;

struct Id
{
    int magic;
    int port;
    char rest[120];
};
static std::mutex listening;
static std::map<int, int> listeners; // port → socket, of ids made here

struct Transfer
{
    char* memory;
    size_t bytes;
    int root;
    bool done = false;
}; // root −1: a sum of floats over all ranks

struct Comm
{
    int rank, size;
    Id id;
    std::atomic<int> error{InProgress};
    std::atomic<bool> aborted{false};
    std::vector<int> peers; // rank 0: by rank; others: [0]
    std::mutex gate;
    std::condition_variable changed;
    std::deque<std::shared_ptr<Transfer>> transfers;
    std::thread thread;
};

static void fail(Comm* c)
{
    if (!getenv("EMULATED_NCCL_SILENT") || c->error != Success) c->error = RemoteError;
}

/// All of it, or false when the other end is gone or the group was aborted.
static bool move(Comm* c, int socket, char* memory, size_t bytes, bool sending)
{
    const int delay = getenv("EMULATED_NCCL_DELAY_US") ? atoi(getenv("EMULATED_NCCL_DELAY_US")) : 0;
    for (size_t at = 0; at < bytes && !c->aborted;)
    {
        pollfd p{socket, (short)(sending ? POLLOUT : POLLIN), 0};
        if (poll(&p, 1, 50) == 0) continue;
        size_t n = bytes - at < 65536 ? bytes - at : 65536;
        ssize_t moved = sending ? send(socket, memory + at, n, MSG_NOSIGNAL | MSG_DONTWAIT)
                                : recv(socket, memory + at, n, MSG_DONTWAIT);
        if (moved < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (moved <= 0) return false;
        at += moved;
        if (sending && delay) usleep(delay);
    }
    return !c->aborted;
}

static bool join(Comm* c)
{
    char ready = 1;
    if (c->rank == 0)
    {
        int listener;
        {
            std::lock_guard<std::mutex> lock(listening);
            listener = listeners.at(c->id.port);
            listeners.erase(c->id.port);
        }
        c->peers.assign(c->size, -1);
        for (int joined = 1; joined < c->size && !c->aborted;)
        {
            pollfd p{listener, POLLIN, 0};
            if (poll(&p, 1, 50) == 0) continue;
            int s = accept(listener, nullptr, nullptr), hello[2];
            if (s < 0) continue;
            if (!move(c, s, (char*)hello, sizeof hello, false) || hello[0] != Magic || hello[1] < 1 ||
                hello[1] >= c->size)
            {
                close(s);
                continue;
            }
            c->peers[hello[1]] = s;
            joined++;
        }
        close(listener);
        for (int r = 1; r < c->size; r++)
            if (c->aborted || !move(c, c->peers[r], &ready, 1, true)) return false;
        return true;
    }
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(c->id.port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->peers = {s};
    if (connect(s, (sockaddr*)&to, sizeof to) != 0) return false;
    int hello[2] = {Magic, c->rank};
    return move(c, s, (char*)hello, sizeof hello, true) && move(c, s, &ready, 1, false);
}

static bool sum(Comm* c, Transfer& t)
{
    if (c->rank != 0)
        return move(c, c->peers[0], t.memory, t.bytes, true) && move(c, c->peers[0], t.memory, t.bytes, false);
    std::vector<float> other(t.bytes / sizeof(float));
    for (int r = 1; r < c->size; r++)
    {
        if (!move(c, c->peers[r], (char*)other.data(), t.bytes, false)) return false;
        for (size_t i = 0; i < other.size(); i++) ((float*)t.memory)[i] += other[i];
    }
    for (int r = 1; r < c->size; r++)
        if (!move(c, c->peers[r], t.memory, t.bytes, true)) return false;
    return true;
}

static bool transfer(Comm* c, Transfer& t)
{
    if (t.root < 0) return sum(c, t);
    if (c->rank != 0) return move(c, c->peers[0], t.memory, t.bytes, c->rank == t.root);
    if (t.root != 0 && !move(c, c->peers[t.root], t.memory, t.bytes, false)) return false;
    for (int r = 1; r < c->size; r++)
        if (r != t.root && !move(c, c->peers[r], t.memory, t.bytes, true)) return false;
    return true;
}

static void run(Comm* c)
{
    if (!join(c))
    {
        fail(c);
        return;
    }
    c->error = Success;
    while (!c->aborted)
    {
        std::shared_ptr<Transfer> next;
        {
            std::unique_lock<std::mutex> lock(c->gate);
            c->changed.wait(lock, [&] { return c->aborted || !c->transfers.empty(); });
            if (c->aborted) return;
            next = c->transfers.front();
            c->transfers.pop_front();
        }
        if (!transfer(c, *next))
        {
            fail(c);
            return;
        }
        std::lock_guard<std::mutex> lock(c->gate);
        next->done = true;
    }
}

/// Behind what the stream has to do.
static int launch(const void* from, void* to, size_t bytes, int root, Comm* c, void* stream)
{
    if (c->error != Success) return c->error == RemoteError ? RemoteError : InvalidArgument;
    auto t = std::make_shared<Transfer>();
    *t = {(char*)to, bytes, root};
    bool begun = false;
    emulated::wait_in_stream(
        stream,
        [=]() mutable
        {
            std::lock_guard<std::mutex> lock(c->gate);
            if (!begun)
            {
                if ((c->rank == root || root < 0) && from != to) memcpy(to, from, t->bytes);
                c->transfers.push_back(t);
                c->changed.notify_all();
                begun = true;
            }
            return t->done || c->aborted;
        }
    );
    return Success;
}

extern "C"
{
    int ncclGetVersion(int* v)
    {
        *v = 22000;
        return 0;
    }
    const char* ncclGetErrorString(int e)
    {
        switch (e)
        {
        case Success:
            return "no error";
        case RemoteError:
            return "remote process exited or there was a network error";
        case InProgress:
            return "NCCL operation in progress";
        default:
            return "emulated NCCL error";
        }
    }
    const char* ncclGetLastError(void*) { return "of the stand-in"; }
    int ncclGetUniqueId(Id* id)
    {
        memset(id, 0, sizeof *id);
        int s = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof at;
        if (s < 0 || bind(s, (sockaddr*)&at, sizeof at) != 0 || listen(s, 64) != 0 ||
            getsockname(s, (sockaddr*)&at, &length) != 0)
            return SystemError;
        id->magic = Magic;
        id->port = ntohs(at.sin_port);
        std::lock_guard<std::mutex> lock(listening);
        listeners[id->port] = s;
        return Success;
    }
    int ncclCommInitRankConfig(Comm** comm, int size, Id id, int rank, void*)
    {
        if (id.magic != Magic || rank < 0 || rank >= size) return InvalidArgument;
        auto c = new Comm;
        c->rank = rank;
        c->size = size;
        c->id = id;
        *comm = c;
        c->thread = std::thread(run, c);
        return InProgress;
    }
    int ncclCommGetAsyncError(Comm* c, int* error)
    {
        *error = c->error;
        return Success;
    }
    int ncclBroadcast(const void* from, void* to, size_t count, int type, int root, Comm* c, void* stream)
    {
        static const int sizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
        return launch(from, to, count * sizes[type], root, c, stream);
    }
    int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, Comm* c, void* stream)
    {
        const int Float32 = 7, Sum = 0;
        return type == Float32 && operation == Sum ? launch(from, to, count * sizeof(float), -1, c, stream)
                                                   : InvalidArgument;
    }
    int ncclGroupStart() { return Success; }
    int ncclGroupEnd() { return Success; }
    int ncclCommAbort(Comm* c)
    {
        {
            std::lock_guard<std::mutex> lock(c->gate);
            c->aborted = true;
            c->changed.notify_all();
        }
        c->thread.join();
        for (int s : c->peers)
            if (s >= 0) close(s);
        return Success; // the object stays: a stream may still ask it
    }
}
