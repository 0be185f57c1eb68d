#ifndef SUPPORTED_OPS_H_
#define SUPPORTED_OPS_H_

// The list of the operators that may run on the NPU, npu_supported_ops.json in the toolkit's directory of operators. The
// sample's adapter looks for it where the real one does, and like that one it says nothing where there is none: then no
// operator is supported, and the CPU runs every model.

#include <sys/stat.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

namespace tensorflow {

// Reads {"NAME": {...}, ...}; what is not that in JSON gives no operator at all.
class SupportedOps {
 public:
  static std::set<std::string> OfThisProcess() {
    const char* named = getenv("ASCEND_OPP_PATH");
    const std::string opp = named != nullptr ? named : "/usr/local/Ascend/opp";
    struct stat status;
    const bool current = stat((opp + "/built-in").c_str(), &status) == 0 && S_ISDIR(status.st_mode);
    const char* place = current ? "/built-in/framework/tensorflow/" : "/framework/built-in/tensorflow/";
    std::ifstream file(opp + place + "npu_supported_ops.json");
    SupportedOps list{std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>())};
    return list.Read() ? list.names_ : std::set<std::string>();
  }

 private:
  explicit SupportedOps(const std::string& text) : text_(text) {}

  bool Read() { return Takes('{') && Object(&names_, 0); }

  // What follows the opening brace; the names of the members that are objects go to `names`.
  bool Object(std::set<std::string>* names, int depth) {
    if (Takes('}')) return true;
    do {
      std::string name;
      if (!String(&name) || !Takes(':')) return false;
      const bool is_object = Peek() == '{';
      if (!Value(depth + 1)) return false;
      if (is_object && names != nullptr) names->insert(name);
    } while (Takes(','));
    return Takes('}');
  }

  bool Value(int depth) {
    if (depth > 100) return false;
    if (Takes('{')) return Object(nullptr, depth);
    if (Takes('[')) {
      if (Takes(']')) return true;
      do {
        if (!Value(depth + 1)) return false;
      } while (Takes(','));
      return Takes(']');
    }
    if (Peek() == '"') {
      std::string text;
      return String(&text);
    }
    const size_t begin = next_;
    while (next_ < text_.size() && IsOfAWord(text_[next_])) ++next_;
    return next_ > begin;
  }

  bool String(std::string* text) {
    if (!Takes('"')) return false;
    while (next_ < text_.size() && text_[next_] != '"') {
      if (text_[next_] == '\\') ++next_;
      if (next_ < text_.size()) text->push_back(text_[next_++]);
    }
    return next_ < text_.size() && text_[next_++] == '"';
  }

  static bool IsOfAWord(char letter) {
    return isalnum(static_cast<unsigned char>(letter)) != 0 || letter == '+' || letter == '-' || letter == '.';
  }

  char Peek() {
    while (next_ < text_.size() && isspace(static_cast<unsigned char>(text_[next_])) != 0) ++next_;
    return next_ < text_.size() ? text_[next_] : '\0';
  }

  bool Takes(char mark) {
    if (Peek() != mark || next_ == text_.size()) return false;
    ++next_;
    return true;
  }

  const std::string text_;
  size_t next_ = 0;
  std::set<std::string> names_;
};

}  // namespace tensorflow

#endif  // SUPPORTED_OPS_H_
