#ifndef TENSORFLOW_SERVING_CONFIG_MODEL_SERVER_CONFIG_H_
#define TENSORFLOW_SERVING_CONFIG_MODEL_SERVER_CONFIG_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tensorflow/core/lib/core/status.h"

namespace tensorflow {
namespace serving {

struct VersionPolicy {
  enum class Choice { kLatest, kAll, kSpecific };

  Choice choice = Choice::kLatest;
  int64_t latest = 1;  // how many of the newest
  std::set<int64_t> specific;
};

struct ModelConfig {
  std::string name;
  std::string base_path;
  std::string platform;
  VersionPolicy policy;
  std::map<std::string, int64_t> labels;
};

using ModelServerConfig = std::vector<ModelConfig>;

// Reads the file of --model_config_file.
Status ReadModelServerConfig(const std::string& path, ModelServerConfig* config);

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_CONFIG_MODEL_SERVER_CONFIG_H_
