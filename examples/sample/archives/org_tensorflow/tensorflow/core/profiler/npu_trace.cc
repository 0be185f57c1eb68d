// This file is one object of its own on purpose: it gets into the server only when something asks for it.

#include "tensorflow/core/profiler/npu_trace.h"

#include "tensorflow/core/lib/monitoring/counter.h"

namespace tensorflow {
namespace profiler {

void NpuTrace::Begin(const std::string& what) { monitoring::Increment(":sample:npu:traces_total:" + what, 1); }

}  // namespace profiler
}  // namespace tensorflow
