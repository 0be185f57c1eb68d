#include "tensorflow_serving/servables/linear/linear_servable.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "tensorflow/core/grappler/custom_graph_optimizer_registry.h"
#include "tensorflow/core/lib/monitoring/counter.h"
#include "tensorflow/core/platform/logging.h"
#include "tensorflow_serving/config/schemas.h"
#include "tensorflow_serving/servables/linear/saved_model_warmup.h"

namespace tensorflow {
namespace serving {
namespace {

TensorInfo TensorOf(const protobuf::Message* message, const std::string& key) {
  TensorInfo info = {key, key + ":0"};
  if (message == nullptr) return info;
  info.key = message->Text("key", key);
  info.name = message->Text("name", info.key + ":0");
  return info;
}

float FloatOf(const protobuf::Message& message, const std::string& name, const std::string& otherwise) {
  return strtof(message.Text(name, otherwise).c_str(), nullptr);
}

}  // namespace

std::string ServableId::ToString() const {
  return "{name: " + name + " version: " + std::to_string(version) + "}";
}

Status LinearServable::Load(const ServableId& id, const std::string& directory, const PlatformConfig& platform,
                            std::shared_ptr<LinearServable>* servable) {
  const auto started = std::chrono::steady_clock::now();
  const auto loaded = std::make_shared<LinearServable>();
  loaded->id_ = id;
  TF_LOG_INFO("Reading SavedModel from: " + directory);
  Status status = loaded->ReadModel(directory);
  if (status.ok()) status = loaded->Optimize(platform);
  const auto took = std::chrono::steady_clock::now() - started;
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
  TF_LOG_INFO("SavedModel load for tags { serve }; Status: " + std::string(status.ok() ? "success" : "fail") + ". Took " +
              std::to_string(micros) + " microseconds.");
  if (status.ok() && platform.enable_model_warmup) status = RunSavedModelWarmup(directory, *loaded);
  if (status.ok()) *servable = loaded;
  return status;
}

Status LinearServable::ReadModel(const std::string& directory) {
  if (access((directory + "/saved_model.pb").c_str(), R_OK) != 0) {
    return NotFound("There is no saved_model.pb in " + directory);
  }
  protobuf::Message message;
  const Status status = ReadTextProto(directory + "/linear_model.txt", "sample.LinearModel", &message);
  if (!status.ok()) return status;
  signature_name_ = message.Text("signature_name", "serving_default");
  input_ = TensorOf(message.FindMessage("input"), "x");
  output_ = TensorOf(message.FindMessage("output"), "y");
  graph_.slope = FloatOf(message, "slope", "1");
  graph_.intercept = FloatOf(message, "intercept", "0");
  return Status();
}

Status LinearServable::Optimize(const PlatformConfig& platform) {
  for (const CustomOptimizer& wanted : platform.custom_optimizers) {
    auto optimizer = grappler::CustomGraphOptimizerRegistry::CreateByNameOrNull(wanted.name);
    // The real server says nothing either when no library has registered the optimizer.
    if (optimizer == nullptr || !optimizer->Init(wanted.parameters)) continue;
    const Status status = optimizer->Place(id_.name, graph_);
    if (!status.ok()) return status;
    optimizer_ = std::move(optimizer);
  }
  return Status();
}

std::vector<float> LinearServable::Predict(const std::vector<float>& x) const {
  std::vector<float> y(x.size());
  if (optimizer_ != nullptr) {
    optimizer_->Run(x.data(), y.data(), x.size());
  } else {
    GetCpuKernel()(graph_, x.data(), y.data(), x.size());
  }
  monitoring::Increment(":sample:predictions_total", 1);
  return y;
}

}  // namespace serving
}  // namespace tensorflow
