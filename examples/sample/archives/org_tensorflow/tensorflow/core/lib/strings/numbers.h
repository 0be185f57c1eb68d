#ifndef TENSORFLOW_CORE_LIB_STRINGS_NUMBERS_H_
#define TENSORFLOW_CORE_LIB_STRINGS_NUMBERS_H_

#include <cstdint>
#include <string>

namespace tensorflow {
namespace strings {

// The number that the text is, all of it; false where it is something else. The server itself has no use for this; the
// adapter of the sample's last release has.
bool safe_strtou32(const std::string& text, uint32_t* value);

}  // namespace strings
}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_LIB_STRINGS_NUMBERS_H_
