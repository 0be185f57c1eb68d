#ifndef TENSORFLOW_CORE_PROFILER_NPU_TRACE_H_
#define TENSORFLOW_CORE_PROFILER_NPU_TRACE_H_

#include <string>

namespace tensorflow {
namespace profiler {

// A trace of what runs on the NPU. The adapters of CANN 7.0 call it, those of 6.3 do not know it.
class NpuTrace {
 public:
  static void Begin(const std::string& what);
};

}  // namespace profiler
}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_PROFILER_NPU_TRACE_H_
