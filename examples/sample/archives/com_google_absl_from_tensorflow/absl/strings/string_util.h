#ifndef ABSL_STRINGS_STRING_UTIL_H_
#define ABSL_STRINGS_STRING_UTIL_H_

// The older release that TensorFlow names. The sample does not compile with it: Serving names a later one, and wins.

#include <initializer_list>
#include <string>

namespace absl {

std::string StrCat(std::initializer_list<std::string> pieces);

}  // namespace absl

#endif  // ABSL_STRINGS_STRING_UTIL_H_
