#include "absl/strings/string_util.h"

namespace absl {

std::string StrCat(std::initializer_list<std::string> pieces) {
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return text;
}

}  // namespace absl
