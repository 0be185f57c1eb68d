#include "tensorflow_serving/config/model_server_config.h"

#include <cstdlib>

#include "tensorflow_serving/config/schemas.h"

namespace tensorflow {
namespace serving {
namespace {

int64_t Integer(const std::string& text) { return strtoll(text.c_str(), nullptr, 0); }

VersionPolicy PolicyOf(const protobuf::Message& message) {
  VersionPolicy policy;
  if (const protobuf::Message* latest = message.FindMessage("latest")) {
    policy.latest = Integer(latest->Text("num_versions", "1"));
  } else if (message.FindMessage("all") != nullptr) {
    policy.choice = VersionPolicy::Choice::kAll;
  } else if (const protobuf::Message* specific = message.FindMessage("specific")) {
    policy.choice = VersionPolicy::Choice::kSpecific;
    for (const protobuf::Field* version : specific->All("versions")) policy.specific.insert(Integer(version->text));
  }
  return policy;
}

ModelConfig ModelOf(const protobuf::Message& message) {
  ModelConfig model;
  model.name = message.Text("name", "");
  model.base_path = message.Text("base_path", "");
  model.platform = message.Text("model_platform", "");
  const std::string type = message.Text("model_type", "");
  if (model.platform.empty() && (type == "TENSORFLOW" || type == "1")) model.platform = "tensorflow";
  if (const protobuf::Message* policy = message.FindMessage("model_version_policy")) model.policy = PolicyOf(*policy);
  for (const protobuf::Field* label : message.All("version_labels")) {
    model.labels[label->message->Text("key", "")] = Integer(label->message->Text("value", "0"));
  }
  return model;
}

}  // namespace

Status ReadModelServerConfig(const std::string& path, ModelServerConfig* config) {
  protobuf::Message message;
  const Status status = ReadTextProto(path, "tensorflow.serving.ModelServerConfig", &message);
  if (!status.ok()) return status;
  config->clear();
  if (const protobuf::Message* list = message.FindMessage("model_config_list")) {
    for (const protobuf::Field* model : list->All("config")) config->push_back(ModelOf(*model->message));
  }
  return Status();
}

}  // namespace serving
}  // namespace tensorflow
