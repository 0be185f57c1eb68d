#ifndef TENSORFLOW_SERVING_CORE_VERSION_DIRECTORIES_H_
#define TENSORFLOW_SERVING_CORE_VERSION_DIRECTORIES_H_

#include <cstdint>
#include <map>
#include <string>

#include "tensorflow/core/lib/core/status.h"
#include "tensorflow_serving/config/model_server_config.h"

namespace tensorflow {
namespace serving {

// The versions below a base path that the policy asks for, with their directories. Other names than numbers don't count.
Status FindVersions(const ModelConfig& model, std::map<int64_t, std::string>* versions);

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_CORE_VERSION_DIRECTORIES_H_
