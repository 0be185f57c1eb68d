#ifndef COMPILE_CACHE_H_
#define COMPILE_CACHE_H_

// The compiler's cache of operators, in kernel_cache below op_compiler_cache_dir. Like that of the real one it is on
// unless op_compiler_cache_mode says otherwise, is emptied by force, and says nothing where it can't be written. Unlike
// that one it needs op_compiler_cache_dir: nothing is written into the home of whoever runs the sample.

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <string>

namespace tensorflow {

class CompileCache {
 public:
  CompileCache() = default;

  explicit CompileCache(const std::map<std::string, std::string>& parameters) {
    const std::string mode = TextOf(parameters, "op_compiler_cache_mode");
    const std::string debug = TextOf(parameters, "op_debug_level");
    is_used_ = (mode.empty() || mode == "enable" || mode == "force") && (debug.empty() || debug == "0");
    empties_ = mode == "force";
    directory_ = TextOf(parameters, "op_compiler_cache_dir");
  }

  // What is there already is used as it is.
  void Keep(const std::string& op, const std::string& release) const {
    if (!is_used_ || directory_.empty()) return;
    const std::string cache = directory_ + "/kernel_cache";
    for (size_t end = 1; end != std::string::npos; end = cache.find('/', end + 1)) {
      mkdir(cache.substr(0, cache.find('/', end)).c_str(), 0755);
    }
    mkdir(cache.c_str(), 0755);
    const std::string path = cache + "/" + op + "_sample.o";
    if (empties_) unlink(path.c_str());
    if (access(path.c_str(), F_OK) != 0) std::ofstream(path) << op << " compiled by CANN " << release << "\n";
  }

 private:
  static std::string TextOf(const std::map<std::string, std::string>& parameters, const std::string& name) {
    const auto found = parameters.find(name);
    if (found == parameters.end()) return "";
    const std::string& text = found->second;  // in quotes, where it is a string
    return text.size() > 1 && text[0] == '"' ? text.substr(1, text.size() - 2) : text;
  }

  bool is_used_ = false;
  bool empties_ = false;
  std::string directory_;
};

}  // namespace tensorflow

#endif  // COMPILE_CACHE_H_
