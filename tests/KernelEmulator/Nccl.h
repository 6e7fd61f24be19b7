#pragma once
#include <functional>

namespace emulated
{
/// The stream does nothing more until this says yes; it is asked whenever the host waits for the stream.
void wait_in_stream(void* stream, std::function<bool()> until);
} // namespace emulated
