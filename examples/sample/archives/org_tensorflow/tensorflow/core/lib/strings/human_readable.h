#ifndef TENSORFLOW_CORE_LIB_STRINGS_HUMAN_READABLE_H_
#define TENSORFLOW_CORE_LIB_STRINGS_HUMAN_READABLE_H_

#include <cstdint>
#include <string>

namespace tensorflow {
namespace strings {

// "512B", "1.5KiB", "2.0GiB". The server itself has no use for this; the adapter has.
std::string HumanReadableNumBytes(int64_t bytes);

}  // namespace strings
}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_LIB_STRINGS_HUMAN_READABLE_H_
