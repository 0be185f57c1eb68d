#ifndef TENSORFLOW_SERVING_SERVABLES_LINEAR_LINEAR_SERVABLE_H_
#define TENSORFLOW_SERVING_SERVABLES_LINEAR_LINEAR_SERVABLE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensorflow/core/framework/linear_kernel.h"
#include "tensorflow/core/grappler/custom_graph_optimizer.h"
#include "tensorflow/core/lib/core/status.h"
#include "tensorflow_serving/config/platform_config.h"

namespace tensorflow {
namespace serving {

struct ServableId {
  std::string name;
  int64_t version = 0;

  std::string ToString() const;  // "{name: m version: 1}"
};

struct TensorInfo {
  std::string key;   // as clients call it
  std::string name;  // as the graph calls it
};

// One loaded version of a model. Its directory holds saved_model.pb, which only has to be there, and linear_model.txt.
class LinearServable {
 public:
  static Status Load(const ServableId& id, const std::string& directory, const PlatformConfig& platform,
                     std::shared_ptr<LinearServable>* servable);

  const ServableId& id() const { return id_; }
  const std::string& signature_name() const { return signature_name_; }
  const TensorInfo& input() const { return input_; }
  const TensorInfo& output() const { return output_; }

  // Safe from several threads at once. On the NPU if an optimizer took the graph over, else on the CPU.
  std::vector<float> Predict(const std::vector<float>& x) const;

 private:
  Status ReadModel(const std::string& directory);
  Status Optimize(const PlatformConfig& platform);

  ServableId id_;
  std::string signature_name_;
  TensorInfo input_;
  TensorInfo output_;
  LinearGraph graph_;
  std::unique_ptr<grappler::CustomGraphOptimizer> optimizer_;
};

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_SERVABLES_LINEAR_LINEAR_SERVABLE_H_
