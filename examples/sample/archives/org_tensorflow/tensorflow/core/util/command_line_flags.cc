#include "tensorflow/core/util/command_line_flags.h"

#include <cstdlib>

#include "absl/strings/string_util.h"
#include "tensorflow/core/platform/logging.h"

namespace tensorflow {

Flag::Flag(const char* name, bool* target, const char* usage)
    : name_(name), kind_(Kind::kBool), target_(target), usage_(usage) {}
Flag::Flag(const char* name, int32_t* target, const char* usage)
    : name_(name), kind_(Kind::kInt32), target_(target), usage_(usage) {}
Flag::Flag(const char* name, int64_t* target, const char* usage)
    : name_(name), kind_(Kind::kInt64), target_(target), usage_(usage) {}
Flag::Flag(const char* name, float* target, const char* usage)
    : name_(name), kind_(Kind::kFloat), target_(target), usage_(usage) {}
Flag::Flag(const char* name, std::string* target, const char* usage)
    : name_(name), kind_(Kind::kString), target_(target), usage_(usage) {}

bool Flag::Set(const std::string& value) const {
  int64_t whole = 0;
  double real = 0;
  switch (kind_) {
    case Kind::kString:
      *static_cast<std::string*>(target_) = value;
      return true;
    case Kind::kBool:
      *static_cast<bool*>(target_) = value == "true" || value == "1";
      return value == "true" || value == "1" || value == "false" || value == "0";
    case Kind::kFloat:
      if (!absl::SimpleAtod(value, &real)) return false;
      *static_cast<float*>(target_) = static_cast<float>(real);
      return true;
    case Kind::kInt64:
      if (!absl::SimpleAtoi(value, &whole)) return false;
      *static_cast<int64_t*>(target_) = whole;
      return true;
    case Kind::kInt32:
      if (!absl::SimpleAtoi(value, &whole) || whole != static_cast<int32_t>(whole)) return false;
      *static_cast<int32_t*>(target_) = static_cast<int32_t>(whole);
      return true;
  }
  return false;
}

std::string Flag::Describe() const {
  std::string kind, preset;
  switch (kind_) {
    case Kind::kString:
      kind = "string";
      preset = absl::StrCat({"\"", *static_cast<std::string*>(target_), "\""});
      break;
    case Kind::kBool:
      kind = "bool";
      preset = *static_cast<bool*>(target_) ? "true" : "false";
      break;
    case Kind::kFloat:
      kind = "float";
      preset = std::to_string(*static_cast<float*>(target_));
      break;
    case Kind::kInt64:
      kind = "int64";
      preset = std::to_string(*static_cast<int64_t*>(target_));
      break;
    case Kind::kInt32:
      kind = "int32";
      preset = std::to_string(*static_cast<int32_t*>(target_));
      break;
  }
  const std::string name = absl::StrCat({"--", name_, "=", preset});
  const size_t column = 48;
  const std::string gap(name.size() + 1 < column ? column - name.size() : 1, ' ');
  return absl::StrCat({"\t", name, gap, kind, "\t", usage_, "\n"});
}

bool Flags::Parse(int* argc, char** argv, const std::vector<Flag>& flags) {
  bool good = true;
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    const std::string word = argv[i];
    bool known = false;
    for (const Flag& flag : flags) {
      std::string rest = word;
      if (!absl::ConsumePrefix(&rest, absl::StrCat({"--", flag.name_}))) continue;
      if (rest.empty() && flag.kind_ == Flag::Kind::kBool) rest = "=true";
      if (!absl::ConsumePrefix(&rest, "=")) continue;
      known = true;
      if (!flag.Set(rest)) {
        TF_LOG_ERROR(absl::StrCat({"\"", rest, "\" is no value for the flag --", flag.name_}));
        good = false;
      }
      break;
    }
    if (!known) argv[kept++] = argv[i];
  }
  *argc = kept;
  argv[kept] = nullptr;
  return good && (*argc < 2 || std::string(argv[1]) != "--help");
}

std::string Flags::Usage(const std::string& program, const std::vector<Flag>& flags) {
  std::string text = absl::StrCat({"usage: ", program, "\nFlags:\n"});
  for (const Flag& flag : flags) text += flag.Describe();
  return text;
}

}  // namespace tensorflow
