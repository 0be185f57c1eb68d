#ifndef ABSL_STRINGS_STRING_UTIL_H_
#define ABSL_STRINGS_STRING_UTIL_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace absl {

std::string StrCat(std::initializer_list<std::string> pieces);
std::vector<std::string> StrSplit(const std::string& text, char separator);
bool StartsWith(const std::string& text, const std::string& prefix);
bool EndsWith(const std::string& text, const std::string& suffix);
std::string StripAsciiWhitespace(const std::string& text);

// Takes the prefix away if it is there, and tells whether it was.
bool ConsumePrefix(std::string* text, const std::string& prefix);

// The whole text has to be a number that fits; otherwise false.
bool SimpleAtoi(const std::string& text, int64_t* value);
bool SimpleAtod(const std::string& text, double* value);

}  // namespace absl

#endif  // ABSL_STRINGS_STRING_UTIL_H_
