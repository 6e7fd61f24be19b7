// Appended to each kernel file: how the driver's stand-in calls a kernel.
#pragma once
#include <utility>

template <class... P, size_t... I>
static void emulated_spread(void (*kernel)(P...), void** p, std::index_sequence<I...>)
{
    kernel(*(P*)p[I]...);
}
template <class... P>
static void emulated_spread(void (*kernel)(P...), void** p)
{
    emulated_spread(kernel, p, std::index_sequence_for<P...>());
}
template <class... P>
static const int* emulated_sizes(void (*)(P...), int* count)
{
    static const int sizes[] = {(int)sizeof(P)..., 0};
    *count = sizeof...(P);
    return sizes;
}

#define EMULATED_CALL(name) \
    extern "C" void emulated_call_##name(void** p) { emulated_spread(name, p); } \
    extern "C" const int* emulated_sizes_##name(int* count) { return emulated_sizes(name, count); }
