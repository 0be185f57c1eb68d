#include "tensorflow_serving/core/server_core.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "tensorflow/core/platform/logging.h"
#include "tensorflow_serving/core/version_directories.h"

namespace tensorflow {
namespace serving {
namespace {

const std::chrono::milliseconds kStopCheck(50);  // how soon a waiting thread notices that the server is to end

Status NotServed(const std::string& name, int64_t version) {
  const std::string which = version < 0 ? "Latest(" + name + ")" : "Specific(" + name + ", " + std::to_string(version) + ")";
  return NotFound("Servable not found for request: " + which);
}

}  // namespace

const char* VersionStateName(VersionState state) {
  switch (state) {
    case VersionState::kStart: return "START";
    case VersionState::kLoading: return "LOADING";
    case VersionState::kAvailable: return "AVAILABLE";
    case VersionState::kUnloading: return "UNLOADING";
    case VersionState::kEnd: break;
  }
  return "END";
}

ServerCore::ServerCore(ServerCoreOptions options, const StopSignal* stop) : options_(std::move(options)), stop_(stop) {}

ServerCore::~ServerCore() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
    changed_.notify_all();
  }
  if (managing_.joinable()) managing_.join();
}

Status ServerCore::Start() {
  const Status valid = Validate(options_.models, true);
  if (!valid.ok()) return valid;
  TF_LOG_INFO("Adding/updating models.");
  Adopt(options_.models);
  managing_ = std::thread([this] { ManageLoop(); });
  std::unique_lock<std::mutex> lock(mutex_);
  Status status;
  while (!Settled(&status) && !stop_->raised()) changed_.wait_for(lock, kStopCheck);
  return stop_->raised() ? Status() : status;  // being told to end is no failure of what was still being loaded
}

Status ServerCore::ReloadConfig(const ModelServerConfig& models) {
  const Status valid = Validate(models, false);
  if (!valid.ok()) return valid;
  Adopt(models);
  return Status();
}

Status ServerCore::Validate(const ModelServerConfig& models, bool at_start) const {
  std::map<std::string, int> names;
  for (const ModelConfig& model : models) {
    if (model.name.empty()) return InvalidArgument("A model without a name is configured for " + model.base_path);
    if (++names[model.name] > 1) return InvalidArgument("The model " + model.name + " is configured more than once");
    if (model.platform.empty()) return InvalidArgument("The model " + model.name + " is configured without model_platform");
    if (options_.platforms.count(model.platform) == 0) {
      return InvalidArgument("No platform config for the platform " + model.platform + " of the model " + model.name);
    }
    if (model.base_path.empty() || model.base_path[0] != '/') {
      return InvalidArgument("Expected model " + model.name + " to have an absolute path; got base_path: " + model.base_path);
    }
    if (options_.allow_version_labels_for_unavailable_models) continue;
    for (const auto& label : model.labels) {
      std::shared_ptr<LinearServable> servable;
      if (!at_start && GetServable(model.name, label.second, &servable).ok()) continue;
      return Status(Code::kFailedPrecondition, "The label " + label.first + " is for version " +
                                                   std::to_string(label.second) + " of model " + model.name +
                                                   ", which is not available");
    }
  }
  return Status();
}

void ServerCore::Adopt(const ModelServerConfig& models) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (auto& model : models_) model.second.configured = false;
  for (const ModelConfig& config : models) {
    if (models_.count(config.name) == 0) TF_LOG_INFO(" (Re-)adding model: " + config.name);
    models_[config.name].config = config;
    models_[config.name].configured = true;
  }
  poll_now_ = true;
  changed_.notify_all();
}

void ServerCore::ManageLoop() {
  const auto interval = std::chrono::seconds(std::max(options_.file_system_poll_wait_seconds, 1));
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ending_ && !stop_->raised()) {
    poll_now_ = false;
    std::vector<std::string> names;
    for (const auto& model : models_) names.push_back(model.first);
    lock.unlock();
    const Status found = FindAll(names);
    if (found.ok()) {
      for (const std::string& name : names) Manage(name);
    } else {
      TF_LOG_ERROR("FileSystemStoragePathSource encountered a file-system access error: " + found.message());
    }
    lock.lock();
    changed_.notify_all();
    const auto next = std::chrono::steady_clock::now() + interval;
    const bool polls = options_.file_system_poll_wait_seconds > 0;
    while (!ending_ && !poll_now_ && !stop_->raised() && (!polls || std::chrono::steady_clock::now() < next)) {
      changed_.wait_for(lock, kStopCheck);
    }
  }
}

// A look for versions ends at the first base path that is missing, before anything is handed on: a model without its
// directory keeps all others from being loaded, as with the real server.
Status ServerCore::FindAll(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    ModelConfig config;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!models_[name].configured) continue;
      config = models_[name].config;
    }
    std::map<int64_t, std::string> versions;
    const Status status = FindVersions(config, &versions);
    if (!status.ok()) return status;
  }
  return Status();
}

void ServerCore::Manage(const std::string& name) {
  ModelConfig config;
  bool configured;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    config = models_[name].config;
    configured = models_[name].configured;
  }
  std::map<int64_t, std::string> wanted;
  if (configured) {
    const Status status = FindVersions(config, &wanted);
    if (!status.ok()) {
      TF_LOG_ERROR("Looking for versions failed: " + status.message());
      return;
    }
    if (wanted.empty()) {
      // What is loaded stays: an empty directory is more likely a mishap than a wish.
      TF_LOG_WARNING("No versions of servable " + name + " found under base path " + config.base_path);
      return;
    }
  }
  for (const auto& version : wanted) LoadVersion(config, version.first, version.second);

  std::vector<int64_t> surplus;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    bool served = !configured;  // an old version goes only when a wanted one is there to take its place
    for (const auto& version : models_[name].versions) {
      const bool available = version.second.status.state == VersionState::kAvailable;
      if (wanted.count(version.first) != 0) served = served || available;
      if (wanted.count(version.first) == 0 && available) surplus.push_back(version.first);
    }
    if (!served) surplus.clear();
  }
  for (const int64_t version : surplus) Unload(name, version);
}

void ServerCore::LoadVersion(const ModelConfig& config, int64_t version, const std::string& directory) {
  const ServableId id = {config.name, version};
  {
    std::lock_guard<std::mutex> lock(mutex_);
    Version& entry = models_[config.name].versions[version];
    const bool fresh = entry.status.state == VersionState::kStart;
    const bool unloaded = entry.status.state == VersionState::kEnd && entry.status.status.ok();
    if (!fresh && !unloaded) return;
    entry.status.state = VersionState::kLoading;
  }
  TF_LOG_INFO("Loading servable version " + id.ToString());
  std::shared_ptr<LinearServable> servable;
  const Status status = LoadWithRetries(config, id, directory, &servable);
  if (status.ok()) {
    TF_LOG_INFO("Successfully loaded servable version " + id.ToString());
  } else {
    TF_LOG_ERROR("Loading servable: " + id.ToString() + " failed: " + status.ToString());
  }
  std::lock_guard<std::mutex> lock(mutex_);
  Version& entry = models_[config.name].versions[version];
  entry.servable = servable;
  entry.status.state = status.ok() ? VersionState::kAvailable : VersionState::kEnd;
  entry.status.status = status;
  changed_.notify_all();
}

Status ServerCore::LoadWithRetries(const ModelConfig& config, const ServableId& id, const std::string& directory,
                                   std::shared_ptr<LinearServable>* servable) const {
  const PlatformConfig& platform = options_.platforms.at(config.platform);
  Status status = LinearServable::Load(id, directory, platform, servable);
  for (int retry = 1; retry <= options_.max_num_load_retries && !status.ok(); ++retry) {
    const auto pause = std::chrono::microseconds(std::max<int64_t>(options_.load_retry_interval_micros, 0));
    TF_LOG_ERROR("Loading " + id.ToString() + " failed: " + status.ToString());
    if (stop_->WaitFor(pause)) break;
    TF_LOG_INFO("Retry " + std::to_string(retry) + " of loading servable version " + id.ToString());
    status = LinearServable::Load(id, directory, platform, servable);
  }
  return status;
}

void ServerCore::Unload(const std::string& name, int64_t version) {
  const ServableId id = {name, version};
  TF_LOG_INFO("Unloading servable version " + id.ToString());
  {
    std::lock_guard<std::mutex> lock(mutex_);
    Version& entry = models_[name].versions[version];
    entry.servable.reset();  // requests that hold it finish with it
    entry.status.state = VersionState::kEnd;
  }
  TF_LOG_INFO("Done unloading servable version " + id.ToString());
}

bool ServerCore::Settled(Status* status) const {
  int failed = 0;
  std::string why;
  for (const auto& model : models_) {
    bool settled = false;
    for (const auto& version : model.second.versions) {
      const VersionStatus& state = version.second.status;
      if (state.state == VersionState::kAvailable) settled = true;
      if (state.state != VersionState::kEnd || state.status.ok()) continue;
      settled = true;
      ++failed;
      why += "{" + ServableId{model.first, version.first}.ToString() + " due to error: " + state.status.ToString() + "}, ";
    }
    if (!settled) return false;
  }
  if (failed > 0) {
    *status = Status(Code::kUnknown, std::to_string(failed) + " servable(s) did not become available: {" + why + "}");
  }
  return true;
}

Status ServerCore::GetServable(const std::string& name, int64_t version, std::shared_ptr<LinearServable>* servable) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto model = models_.find(name);
  if (model == models_.end()) return NotServed(name, version);
  const auto& versions = model->second.versions;
  for (auto it = versions.rbegin(); it != versions.rend(); ++it) {
    if (it->second.servable == nullptr || (version >= 0 && it->first != version)) continue;
    *servable = it->second.servable;
    return Status();
  }
  return NotServed(name, version);
}

Status ServerCore::GetVersionStatuses(const std::string& name, int64_t version, VersionStatuses* statuses) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto model = models_.find(name);
  if (model != models_.end()) {
    for (const auto& entry : model->second.versions) {
      if (version < 0 || entry.first == version) statuses->emplace(entry.first, entry.second.status);
    }
  }
  if (!statuses->empty()) return Status();
  return NotFound(version < 0 ? "Could not find any versions of model " + name
                              : "Could not find version " + std::to_string(version) + " of model " + name);
}

}  // namespace serving
}  // namespace tensorflow
