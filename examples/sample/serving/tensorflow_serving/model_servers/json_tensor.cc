#include "tensorflow_serving/model_servers/json_tensor.h"

#include <cmath>
#include <limits>

namespace tensorflow {
namespace serving {
namespace {

Status Append(const json::Value& value, size_t level, Tensor* tensor) {
  if (value.type == json::Value::Type::kArray) {
    if (level >= tensor->shape.size()) {
      return InvalidArgument("Encountered list at unexpected level: " + std::to_string(level) + " expected < " +
                             std::to_string(tensor->shape.size()));
    }
    if (value.items.size() != tensor->shape[level]) {
      return InvalidArgument("Encountered list at unexpected size: " + std::to_string(value.items.size()) + " at level: " +
                             std::to_string(level) + " expected size: " + std::to_string(tensor->shape[level]));
    }
    for (const json::Value& item : value.items) {
      const Status status = Append(item, level + 1, tensor);
      if (!status.ok()) return status;
    }
    return Status();
  }
  if (value.type != json::Value::Type::kNumber) {
    return InvalidArgument("JSON Value: " + json::Write(value) + " Type: " + json::TypeName(value.type) +
                           " is not of expected type: float");
  }
  if (level != tensor->shape.size()) {
    return InvalidArgument("JSON Value: " + json::Write(value) + " found at incorrect level: " + std::to_string(level) +
                           " in the JSON DOM. Expected at level: " + std::to_string(tensor->shape.size()));
  }
  if (std::isfinite(value.number) && std::fabs(value.number) > static_cast<double>(std::numeric_limits<float>::max())) {
    return InvalidArgument("Cannot convert JSON value: " + value.text + " to float without loss of precision.");
  }
  tensor->values.push_back(static_cast<float>(value.number));
  return Status();
}

// The shape of the first element decides; the others have to fit it.
void ReadShape(const json::Value* value, std::vector<size_t>* shape) {
  while (value->type == json::Value::Type::kArray) {
    shape->push_back(value->items.size());
    if (value->items.empty()) return;
    value = &value->items[0];
  }
}

Status Fill(const json::Value& value, Tensor* tensor) {
  ReadShape(&value, &tensor->shape);
  return Append(value, 0, tensor);
}

// An instance may be {"x": value}, then with that one key only.
Status Unwrap(const json::Value& instance, const std::string& name, size_t index, const json::Value** value) {
  *value = &instance;
  if (instance.type != json::Value::Type::kObject) return Status();
  *value = instance.Find(name);
  const std::string where = "Failed to process element: " + std::to_string(index) + " of 'instances' list. ";
  if (*value == nullptr) return InvalidArgument(where + "JSON object: does not have named input: " + name);
  if (instance.keys.size() == 1) return Status();
  return InvalidArgument(where + "JSON object: " + json::Write(instance) + " must only have keys: " + name);
}

Status FillRows(const json::Value& instances, const std::string& name, Tensor* tensor) {
  if (instances.type != json::Value::Type::kArray) return InvalidArgument("'instances' is to be a list");
  if (instances.items.empty()) return InvalidArgument("There is nothing in the 'instances' list");
  tensor->shape.push_back(instances.items.size());
  for (size_t i = 0; i < instances.items.size(); ++i) {
    const json::Value* value = nullptr;
    Status status = Unwrap(instances.items[i], name, i, &value);
    if (status.ok() && instances.items[i].type != instances.items[0].type &&
        instances.items[i].type == json::Value::Type::kObject) {
      status = InvalidArgument("Expecting value/list but got object at item " + std::to_string(i) + " of input list");
    }
    if (status.ok() && i == 0) ReadShape(value, &tensor->shape);
    if (status.ok()) status = Append(*value, 1, tensor);
    if (!status.ok()) return status;
  }
  return Status();
}

void Write(const Tensor& tensor, size_t level, size_t* next, std::string* text) {
  if (level == tensor.shape.size()) {
    *text += json::FormatFloat(tensor.values[(*next)++]);
    return;
  }
  *text += '[';
  for (size_t i = 0; i < tensor.shape[level]; ++i) {
    if (i > 0) *text += ", ";
    Write(tensor, level + 1, next, text);
  }
  *text += ']';
}

}  // namespace

Status PredictRequest::Parse(const std::string& body) {
  std::string error;
  if (!json::Parse(body, &body_, &error)) return InvalidArgument("JSON Parse error: " + error);
  if (body_.type != json::Value::Type::kObject) {
    return InvalidArgument("JSON Value: " + json::Write(body_) + " is not object");
  }
  if (const json::Value* signature = body_.Find("signature_name")) {
    if (signature->type != json::Value::Type::kString) {
      return InvalidArgument("JSON Value: " + json::Write(*signature) +
                             " not formatted correctly. 'signature_name' key must be a string value.");
    }
    signature_name_ = signature->text;
  }
  const bool rows = body_.Find("instances") != nullptr, columns = body_.Find("inputs") != nullptr;
  if (rows && columns) return InvalidArgument("A request has either 'instances' or 'inputs', this one has both");
  if (!rows && !columns) return InvalidArgument("Missing 'inputs' or 'instances' key");
  format_ = rows ? PredictFormat::kRow : PredictFormat::kColumn;
  return Status();
}

Status PredictRequest::Input(const std::string& name, Tensor* tensor) const {
  if (format_ == PredictFormat::kRow) return FillRows(*body_.Find("instances"), name, tensor);
  const json::Value* inputs = body_.Find("inputs");
  if (inputs->type != json::Value::Type::kObject) return Fill(*inputs, tensor);
  const json::Value* value = inputs->Find(name);
  if (value == nullptr) return InvalidArgument("Missing named input: " + name + " in 'inputs' object.");
  return Fill(*value, tensor);
}

std::string FormatPredictResponse(PredictFormat format, const Tensor& tensor) {
  std::string text = format == PredictFormat::kRow ? "{\n    \"predictions\": " : "{\n    \"outputs\": ";
  size_t next = 0;
  Write(tensor, 0, &next, &text);
  return text + "\n}";
}

}  // namespace serving
}  // namespace tensorflow
