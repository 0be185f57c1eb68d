#include "tensorflow/core/grappler/custom_graph_optimizer_registry.h"

#include <cstdlib>
#include <map>

#include "tensorflow/core/platform/logging.h"

namespace tensorflow {
namespace grappler {
namespace {

// Made on first use: an adapter's static constructors run before those of the server.
std::map<std::string, CustomGraphOptimizerRegistry::Creator>& Creators() {
  static auto* creators = new std::map<std::string, CustomGraphOptimizerRegistry::Creator>;
  return *creators;
}

}  // namespace

CustomGraphOptimizer::~CustomGraphOptimizer() = default;

void CustomGraphOptimizerRegistry::RegisterOptimizerOrDie(const Creator& creator, const std::string& name) {
  if (!Creators().emplace(name, creator).second) {
    TF_LOG_ERROR("An optimizer named " + name + " is registered twice.");
    abort();
  }
}

std::unique_ptr<CustomGraphOptimizer> CustomGraphOptimizerRegistry::CreateByNameOrNull(const std::string& name) {
  const auto found = Creators().find(name);
  return std::unique_ptr<CustomGraphOptimizer>(found == Creators().end() ? nullptr : found->second());
}

}  // namespace grappler
}  // namespace tensorflow
