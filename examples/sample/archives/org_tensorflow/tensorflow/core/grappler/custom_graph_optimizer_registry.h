#ifndef TENSORFLOW_CORE_GRAPPLER_CUSTOM_GRAPH_OPTIMIZER_REGISTRY_H_
#define TENSORFLOW_CORE_GRAPPLER_CUSTOM_GRAPH_OPTIMIZER_REGISTRY_H_

#include <functional>
#include <memory>
#include <string>

#include "tensorflow/core/grappler/custom_graph_optimizer.h"

namespace tensorflow {
namespace grappler {

// Where adapters leave their optimizers, from static constructors, and where the server finds them by name.
class CustomGraphOptimizerRegistry {
 public:
  using Creator = std::function<CustomGraphOptimizer*()>;

  static void RegisterOptimizerOrDie(const Creator& creator, const std::string& name);

  // Null for a name that nobody registered. As in the real TensorFlow that is no error, and no word is lost about it.
  static std::unique_ptr<CustomGraphOptimizer> CreateByNameOrNull(const std::string& name);
};

}  // namespace grappler
}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_GRAPPLER_CUSTOM_GRAPH_OPTIMIZER_REGISTRY_H_
