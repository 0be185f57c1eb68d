#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_JSON_TENSOR_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_JSON_TENSOR_H_

#include <string>
#include <vector>

#include "rapidjson/value.h"
#include "tensorflow/core/lib/core/status.h"

namespace tensorflow {
namespace serving {

// Floats in row-major order.
struct Tensor {
  std::vector<size_t> shape;
  std::vector<float> values;
};

enum class PredictFormat { kRow, kColumn };

// Reads a body of the predict API: {"instances": [...]} (row format) or {"inputs": ...} (column format), each with an
// optional "signature_name".
class PredictRequest {
 public:
  Status Parse(const std::string& body);

  const std::string& signature_name() const { return signature_name_; }
  PredictFormat format() const { return format_; }

  // The tensor of the model's one input, which the body may hold under its name or, as it is the only one, without.
  Status Input(const std::string& name, Tensor* tensor) const;

 private:
  json::Value body_;
  std::string signature_name_;
  PredictFormat format_ = PredictFormat::kRow;
};

// {"predictions": [...]} or {"outputs": ...}, whichever answers to the format.
std::string FormatPredictResponse(PredictFormat format, const Tensor& tensor);

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_JSON_TENSOR_H_
