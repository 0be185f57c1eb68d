#include "tensorflow_serving/core/version_directories.h"

#include <dirent.h>
#include <sys/stat.h>

#include <iterator>

#include "absl/strings/string_util.h"

namespace tensorflow {
namespace serving {

Status FindVersions(const ModelConfig& model, std::map<int64_t, std::string>* versions) {
  versions->clear();
  DIR* directory = opendir(model.base_path.c_str());
  if (directory == nullptr) {
    return InvalidArgument("Could not find base path " + model.base_path + " for servable " + model.name);
  }
  while (const dirent* entry = readdir(directory)) {
    const std::string name = entry->d_name, path = model.base_path + "/" + name;
    int64_t version = -1;
    struct stat status;
    if (!absl::SimpleAtoi(name, &version) || version < 0) continue;
    if (stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) versions->emplace(version, path);
  }
  closedir(directory);

  const VersionPolicy& policy = model.policy;
  if (policy.choice == VersionPolicy::Choice::kLatest) {
    const size_t wanted = policy.latest > 0 ? static_cast<size_t>(policy.latest) : 1;
    while (versions->size() > wanted) versions->erase(versions->begin());
  } else if (policy.choice == VersionPolicy::Choice::kSpecific) {
    for (auto it = versions->begin(); it != versions->end();) {
      it = policy.specific.count(it->first) != 0 ? std::next(it) : versions->erase(it);
    }
  }
  return Status();
}

}  // namespace serving
}  // namespace tensorflow
