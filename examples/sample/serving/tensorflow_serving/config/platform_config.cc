#include "tensorflow_serving/config/platform_config.h"

#include "absl/strings/string_util.h"
#include "tensorflow_serving/config/schemas.h"

namespace tensorflow {
namespace serving {
namespace {

std::string ValueOf(const protobuf::Message* attr) {
  if (attr == nullptr || attr->fields.empty()) return "";
  const protobuf::Field& value = attr->fields.back();
  if (value.name == "s") return '"' + value.text + '"';  // as it is written: no string is a bool or a number
  if (value.name != "b") return value.text;
  const char first = value.text[0];
  return first == 't' || first == 'T' || first == '1' ? "true" : "false";
}

CustomOptimizer OptimizerOf(const protobuf::Message& message) {
  CustomOptimizer optimizer;
  optimizer.name = message.Text("name", "");
  for (const protobuf::Field* entry : message.All("parameter_map")) {
    optimizer.parameters[entry->message->Text("key", "")] = ValueOf(entry->message->FindMessage("value"));
  }
  return optimizer;
}

// The message behind a chain of names, or null if a link of it is missing.
const protobuf::Message* Follow(const protobuf::Message* message, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (message != nullptr) message = message->FindMessage(name);
  }
  return message;
}

PlatformConfig PlatformOf(const protobuf::Message* value) {
  PlatformConfig platform;
  const protobuf::Message* any = Follow(value, {"source_adapter_config"});
  if (any == nullptr) return platform;
  for (const protobuf::Field& field : any->fields) {
    if (!absl::EndsWith(field.name, "/tensorflow.serving.SavedModelBundleSourceAdapterConfig")) continue;
    const protobuf::Message* bundle = Follow(field.message.get(), {"legacy_config"});
    const std::string warmup = bundle != nullptr ? bundle->Text("enable_model_warmup", "false") : "false";
    platform.enable_model_warmup = warmup[0] == 't' || warmup[0] == 'T' || warmup[0] == '1';
    const protobuf::Message* rewriter = Follow(bundle, {"session_config", "graph_options", "rewrite_options"});
    if (rewriter == nullptr) continue;
    for (const protobuf::Field* optimizer : rewriter->All("custom_optimizers")) {
      platform.custom_optimizers.push_back(OptimizerOf(*optimizer->message));
    }
  }
  return platform;
}

}  // namespace

Status ReadPlatformConfigMap(const std::string& path, PlatformConfigMap* platforms) {
  protobuf::Message message;
  const Status status = ReadTextProto(path, "tensorflow.serving.PlatformConfigMap", &message);
  if (!status.ok()) return status;
  for (const protobuf::Field* entry : message.All("platform_configs")) {
    (*platforms)[entry->message->Text("key", "")] = PlatformOf(entry->message->FindMessage("value"));
  }
  return Status();
}

}  // namespace serving
}  // namespace tensorflow
