#ifndef RUN_FILES_H_
#define RUN_FILES_H_

#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <map>
#include <string>

// What CANN writes beside the answers, where the options and variables ask for it: dumps of operators, GE's graph, a
// profile. Places and names are those of the real ones; there is next to nothing in the files.
class RunFiles {
 public:
  RunFiles(const std::map<std::string, std::string>& parameters, const std::string& model) : model_(model) {
    dump_path_ = Value(parameters, "enable_dump") == "true" ? Value(parameters, "dump_path") : "";
    profile_ = Value(parameters, "profiling_mode") == "true";
    const std::string options = Value(parameters, "profiling_options");
    const std::string key = "\"output\":";
    const size_t at = options.find(key);
    const size_t begin = at == std::string::npos ? at : options.find('"', at + key.size());
    if (begin != std::string::npos) profile_path_ = options.substr(begin + 1, options.find('"', begin + 1) - begin - 1);
  }

  // What keeps a model from being loaded; "" where nothing does.
  static std::string Trouble(const std::map<std::string, std::string>& parameters) {
    struct stat found;
    if (Value(parameters, "enable_dump") != "true") return "";
    const std::string path = Value(parameters, "dump_path");
    if (path.empty()) return "dump_path must be set when enable_dump is true";
    const bool there = stat(path.c_str(), &found) == 0 && S_ISDIR(found.st_mode);
    return there ? "" : "the dump_path " + path + " is not a directory";
  }

  // The graph is there: as GE writes it with DUMP_GE_GRAPH into the working directory, and the profile's beginning.
  void Compiled(int graph) {
    const std::string time = Now("%Y%m%d%H%M%S");
    graph_ = "ge_default_" + time + "_" + std::to_string(graph);
    id_ = std::to_string(graph);
    if (std::getenv("DUMP_GE_GRAPH") != nullptr) {
      std::ofstream file("ge_proto_0000011" + id_ + "_graph_" + id_ + "_Build.txt");
      file << "graph {\n  name: \"" << graph_ << "\"\n";
      for (const char* type : {"Mul", "Add"}) {
        file << "  op {\n    name: \"" << model_ << "/" << type << "\"\n    type: \"" << type << "\"\n  }\n";
      }
      file << "}\n";
    }
    struct stat found;
    if (profile_ && stat(profile_path_.c_str(), &found) == 0 && S_ISDIR(found.st_mode)) {
      const std::string data = profile_path_ + "/PROF_00000" + id_ + "_" + time + "000_ABCDEFGHIJKLMNOP/device_0/data";
      MakeDirectories(data);
      std::ofstream(data + "/hwts.data.0.slice_0") << "sample\n";
    }
    if (!dump_path_.empty()) dump_path_ += "/" + time + "/0/" + graph_ + "/" + id_;
  }

  // One step has run: its outputs, a file for each operator.
  void Ran() {
    if (dump_path_.empty()) return;
    const std::string step = dump_path_ + "/" + std::to_string(steps_++);
    MakeDirectories(step);
    int task = 0;
    for (const char* type : {"Mul", "Add"}) {
      std::ofstream(step + "/" + type + "." + model_ + "_" + type + "." + std::to_string(++task) + "." + Microseconds())
          << "sample\n";
    }
  }

 private:
  static std::string Value(const std::map<std::string, std::string>& parameters, const std::string& name) {
    const auto found = parameters.find(name);
    const std::string text = found == parameters.end() ? "" : found->second;
    if (text.size() < 2 || text.front() != '"') return text;
    std::string value;  // a string comes in its quotes, as it stands in the platform config
    for (size_t i = 1; i + 1 < text.size(); ++i) value += text[i] == '\\' ? text[++i] : text[i];
    return value;
  }

  static std::string Now(const char* form) {
    const std::time_t now = std::time(nullptr);
    struct tm parts;
    char text[32];
    std::strftime(text, sizeof(text), form, localtime_r(&now, &parts));
    return text;
  }

  static std::string Microseconds() {
    struct timeval now;
    gettimeofday(&now, nullptr);
    return std::to_string(now.tv_sec * 1000000LL + now.tv_usec);
  }

  static void MakeDirectories(const std::string& path) {
    for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
      mkdir(path.substr(0, end).c_str(), 0755);
    }
    mkdir(path.c_str(), 0755);
  }

  std::string model_, graph_, id_, dump_path_, profile_path_ = ".";
  bool profile_ = false;
  int steps_ = 0;
};

#endif  // RUN_FILES_H_
