#ifndef TENSORFLOW_SERVING_CONFIG_PLATFORM_CONFIG_H_
#define TENSORFLOW_SERVING_CONFIG_PLATFORM_CONFIG_H_

#include <map>
#include <string>
#include <vector>

#include "tensorflow/core/lib/core/status.h"

namespace tensorflow {
namespace serving {

struct CustomOptimizer {
  std::string name;
  std::map<std::string, std::string> parameters;  // values as text; booleans are "true" and "false"
};

// What the sample makes use of in one platform's session configuration.
struct PlatformConfig {
  std::vector<CustomOptimizer> custom_optimizers;
  bool enable_model_warmup = true;  // without a platform config; in one, what is left out is false
};

using PlatformConfigMap = std::map<std::string, PlatformConfig>;

// Reads the file of --platform_config_file.
Status ReadPlatformConfigMap(const std::string& path, PlatformConfigMap* platforms);

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_CONFIG_PLATFORM_CONFIG_H_
