#ifndef TENSORFLOW_CORE_UTIL_COMMAND_LINE_FLAGS_H_
#define TENSORFLOW_CORE_UTIL_COMMAND_LINE_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tensorflow {

// One flag, written --name=value; --name alone switches a bool on.
class Flag {
 public:
  Flag(const char* name, bool* target, const char* usage);
  Flag(const char* name, int32_t* target, const char* usage);
  Flag(const char* name, int64_t* target, const char* usage);
  Flag(const char* name, float* target, const char* usage);
  Flag(const char* name, std::string* target, const char* usage);

 private:
  friend class Flags;
  enum class Kind { kBool, kInt32, kInt64, kFloat, kString };

  bool Set(const std::string& value) const;
  std::string Describe() const;

  std::string name_;
  Kind kind_;
  void* target_;
  std::string usage_;
};

class Flags {
 public:
  // Takes the known flags out of argv; what it does not know stays there. False for --help and for a value that is not
  // of its flag's kind.
  static bool Parse(int* argc, char** argv, const std::vector<Flag>& flags);

  static std::string Usage(const std::string& program, const std::vector<Flag>& flags);
};

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_UTIL_COMMAND_LINE_FLAGS_H_
