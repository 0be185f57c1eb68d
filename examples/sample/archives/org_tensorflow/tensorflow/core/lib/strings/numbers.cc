#include "tensorflow/core/lib/strings/numbers.h"

#include <limits>

namespace tensorflow {
namespace strings {

bool safe_strtou32(const std::string& text, uint32_t* value) {
  uint64_t number = 0;
  for (const char digit : text) {
    if (digit < '0' || digit > '9') return false;
    number = 10 * number + static_cast<uint64_t>(digit - '0');
    if (number > std::numeric_limits<uint32_t>::max()) return false;
  }
  *value = static_cast<uint32_t>(number);
  return !text.empty();
}

}  // namespace strings
}  // namespace tensorflow
