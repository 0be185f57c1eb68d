#include "absl/strings/string_util.h"

#include <cerrno>
#include <cstdlib>

namespace absl {

std::string StrCat(std::initializer_list<std::string> pieces) {
  size_t size = 0;
  for (const std::string& piece : pieces) size += piece.size();
  std::string text;
  text.reserve(size);
  for (const std::string& piece : pieces) text += piece;
  return text;
}

std::vector<std::string> StrSplit(const std::string& text, char separator) {
  std::vector<std::string> pieces;
  size_t start = 0;
  for (size_t end; (end = text.find(separator, start)) != std::string::npos; start = end + 1) {
    pieces.push_back(text.substr(start, end - start));
  }
  pieces.push_back(text.substr(start));
  return pieces;
}

bool StartsWith(const std::string& text, const std::string& prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

bool EndsWith(const std::string& text, const std::string& suffix) {
  return text.size() >= suffix.size() && text.compare(text.size() - suffix.size(), suffix.size(), suffix) == 0;
}

std::string StripAsciiWhitespace(const std::string& text) {
  const char* const blanks = " \t\r\n\v\f";
  const size_t first = text.find_first_not_of(blanks);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

bool ConsumePrefix(std::string* text, const std::string& prefix) {
  if (!StartsWith(*text, prefix)) return false;
  text->erase(0, prefix.size());
  return true;
}

bool SimpleAtoi(const std::string& text, int64_t* value) {
  char* end = nullptr;
  errno = 0;
  const long long parsed = strtoll(text.c_str(), &end, 10);
  if (text.empty() || text[0] == ' ' || errno != 0 || *end != '\0') return false;
  *value = parsed;
  return true;
}

bool SimpleAtod(const std::string& text, double* value) {
  char* end = nullptr;
  const double parsed = strtod(text.c_str(), &end);
  if (text.empty() || text[0] == ' ' || *end != '\0') return false;
  *value = parsed;
  return true;
}

}  // namespace absl
