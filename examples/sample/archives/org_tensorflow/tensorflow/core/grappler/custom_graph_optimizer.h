#ifndef TENSORFLOW_CORE_GRAPPLER_CUSTOM_GRAPH_OPTIMIZER_H_
#define TENSORFLOW_CORE_GRAPPLER_CUSTOM_GRAPH_OPTIMIZER_H_

#include <cstddef>
#include <map>
#include <string>

#include "tensorflow/core/framework/linear_kernel.h"
#include "tensorflow/core/lib/core/status.h"

namespace tensorflow {
namespace grappler {

// What an adapter implements to take graphs over. One object serves one loaded graph.
class CustomGraphOptimizer {
 public:
  virtual ~CustomGraphOptimizer();

  // The parameter_map of the platform config, values as their text. False when they ask for the graph to stay on the CPU.
  virtual bool Init(const std::map<std::string, std::string>& parameters) = 0;

  // Called once, when the graph is loaded.
  virtual Status Place(const std::string& name, const LinearGraph& graph) = 0;

  // Computes `count` elements; several threads may call it at once.
  virtual void Run(const float* x, float* y, size_t count) = 0;
};

}  // namespace grappler
}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_GRAPPLER_CUSTOM_GRAPH_OPTIMIZER_H_
