#ifndef TENSORFLOW_SERVING_CORE_SERVER_CORE_H_
#define TENSORFLOW_SERVING_CORE_SERVER_CORE_H_

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tensorflow/core/lib/core/status.h"
#include "tensorflow_serving/config/model_server_config.h"
#include "tensorflow_serving/config/platform_config.h"
#include "tensorflow_serving/core/stop_signal.h"
#include "tensorflow_serving/servables/linear/linear_servable.h"

namespace tensorflow {
namespace serving {

enum class VersionState { kStart, kLoading, kAvailable, kUnloading, kEnd };
const char* VersionStateName(VersionState state);

struct VersionStatus {
  VersionState state = VersionState::kStart;
  Status status;
};

// Newest version first, as the real server lists them.
using VersionStatuses = std::map<int64_t, VersionStatus, std::greater<int64_t>>;

struct ServerCoreOptions {
  ModelServerConfig models;
  PlatformConfigMap platforms;
  int32_t max_num_load_retries = 5;
  int64_t load_retry_interval_micros = 60LL * 1000 * 1000;
  int32_t file_system_poll_wait_seconds = 1;
  bool allow_version_labels_for_unavailable_models = false;
};

// Keeps the loaded versions equal to what the configuration and the file system ask for. A thread of its own looks for
// new versions and loads them; an old version goes when a newer one is available.
class ServerCore {
 public:
  ServerCore(ServerCoreOptions options, const StopSignal* stop);
  ~ServerCore();

  // Returns when every model has an available version, or with an error when the load of one has failed for good. A model
  // without any version is waited for. Also returns, successfully, when the stop signal is raised first.
  Status Start();

  Status ReloadConfig(const ModelServerConfig& models);

  // The newest available version, or the one asked for (version >= 0).
  Status GetServable(const std::string& name, int64_t version, std::shared_ptr<LinearServable>* servable) const;
  Status GetVersionStatuses(const std::string& name, int64_t version, VersionStatuses* statuses) const;

 private:
  struct Version {
    VersionStatus status;
    std::shared_ptr<LinearServable> servable;
  };
  struct Model {
    ModelConfig config;
    bool configured = false;  // false once the configuration no longer names it
    std::map<int64_t, Version> versions;
  };

  Status Validate(const ModelServerConfig& models, bool at_start) const;
  void Adopt(const ModelServerConfig& models);
  void ManageLoop();
  Status FindAll(const std::vector<std::string>& names);
  void Manage(const std::string& name);
  void LoadVersion(const ModelConfig& config, int64_t version, const std::string& directory);
  Status LoadWithRetries(const ModelConfig& config, const ServableId& id, const std::string& directory,
                         std::shared_ptr<LinearServable>* servable) const;
  void Unload(const std::string& name, int64_t version);
  bool Settled(Status* status) const;

  const ServerCoreOptions options_;
  const StopSignal* const stop_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, Model> models_;
  bool poll_now_ = true;
  bool ending_ = false;
  std::thread managing_;
};

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_CORE_SERVER_CORE_H_
