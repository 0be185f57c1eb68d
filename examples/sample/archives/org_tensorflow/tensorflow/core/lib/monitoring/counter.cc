#include "tensorflow/core/lib/monitoring/counter.h"

#include <mutex>

namespace tensorflow {
namespace monitoring {
namespace {

struct Registry {
  std::mutex mutex;
  std::map<std::string, int64_t> counters;
};

// Never destroyed: threads may still count while the process ends.
Registry& TheRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

}  // namespace

void Increment(const std::string& name, int64_t by) {
  Registry& registry = TheRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  registry.counters[name] += by;
}

std::map<std::string, int64_t> Counters() {
  Registry& registry = TheRegistry();
  std::lock_guard<std::mutex> lock(registry.mutex);
  return registry.counters;
}

}  // namespace monitoring
}  // namespace tensorflow
