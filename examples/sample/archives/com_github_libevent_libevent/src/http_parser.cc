#include "event/http_parser.h"

#include <ctype.h>
#include <strings.h>

#include <cerrno>
#include <cstdlib>

namespace event {
namespace {

const size_t kLargestHead = 64 << 10;

std::string Strip(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Takes the line at `*offset` without its end. False if it has not arrived as a whole.
bool TakeLine(const std::string& bytes, size_t* offset, std::string* line) {
  const size_t end = bytes.find('\n', *offset);
  if (end == std::string::npos) return false;
  line->assign(bytes, *offset, end - *offset);
  if (!line->empty() && line->back() == '\r') line->pop_back();
  *offset = end + 1;
  return true;
}

bool ParseRequestLine(const std::string& line, Request* request) {
  const size_t first = line.find(' '), last = line.rfind(' ');
  if (first == 0 || first == std::string::npos || first == last) return false;
  const std::string version = line.substr(last + 1);
  if (version != "HTTP/1.0" && version != "HTTP/1.1") return false;
  request->minor_version = version.back() - '0';
  request->method = line.substr(0, first);
  std::string target = line.substr(first + 1, last - first - 1);
  const size_t scheme = target.find("://");
  if (target[0] != '/' && scheme != std::string::npos) {  // a proxy's form: http://host/path
    const size_t path = target.find('/', scheme + 3);
    target = path == std::string::npos ? "/" : target.substr(path);
  }
  if (target.find(' ') != std::string::npos || target[0] != '/') return false;
  const size_t mark = target.find('?');
  request->path = target.substr(0, mark);
  request->query = mark == std::string::npos ? "" : target.substr(mark + 1);
  return true;
}

bool ParseSize(const std::string& text, int base, size_t* size) {
  char* end = nullptr;
  errno = 0;
  *size = strtoull(text.c_str(), &end, base);
  const bool digit = !text.empty() && (base == 16 ? isxdigit(static_cast<unsigned char>(text[0])) : isdigit(static_cast<unsigned char>(text[0])));
  return digit && *end == '\0' && errno == 0;
}

Progress ParseChunks(const std::string& bytes, size_t limit, size_t* consumed, Request* request) {
  size_t offset = 0;
  std::string line;
  request->body.clear();
  for (;;) {
    size_t size = 0;
    if (!TakeLine(bytes, &offset, &line)) return Progress::kNeedMore;
    if (!ParseSize(Strip(line.substr(0, line.find(';'))), 16, &size)) return Progress::kBad;
    if (size == 0) break;
    if (size > limit || request->body.size() + size > limit) return Progress::kTooLarge;
    if (bytes.size() - offset < size) return Progress::kNeedMore;
    request->body.append(bytes, offset, size);
    offset += size;
    if (!TakeLine(bytes, &offset, &line)) return Progress::kNeedMore;
    if (!line.empty()) return Progress::kBad;
  }
  do {  // trailers, which nobody here reads
    if (!TakeLine(bytes, &offset, &line)) return Progress::kNeedMore;
  } while (!line.empty());
  *consumed = offset;
  return Progress::kDone;
}

}  // namespace

const std::string* Request::Header(const std::string& name) const {
  for (const auto& header : headers) {
    if (strcasecmp(header.first.c_str(), name.c_str()) == 0) return &header.second;
  }
  return nullptr;
}

bool Request::KeepAlive() const {
  const std::string* connection = Header("Connection");
  if (connection == nullptr) return minor_version > 0;
  return minor_version > 0 ? strcasecmp(connection->c_str(), "close") != 0
                           : strcasecmp(connection->c_str(), "keep-alive") == 0;
}

Progress ParseHead(const std::string& bytes, size_t* consumed, Request* request) {
  const Progress unfinished = bytes.size() > kLargestHead ? Progress::kTooLarge : Progress::kNeedMore;
  size_t offset = 0;
  std::string line;
  do {  // empty lines before a request are to be skipped
    if (!TakeLine(bytes, &offset, &line)) return unfinished;
  } while (line.empty());
  if (!ParseRequestLine(line, request)) return Progress::kBad;
  request->headers.clear();
  for (;;) {
    if (!TakeLine(bytes, &offset, &line)) return unfinished;
    if (line.empty()) break;
    const size_t colon = line.find(':');
    if (colon == 0 || colon == std::string::npos || line[colon - 1] == ' ') return Progress::kBad;
    request->headers.emplace_back(line.substr(0, colon), Strip(line.substr(colon + 1)));
  }
  if (offset > kLargestHead) return Progress::kTooLarge;
  *consumed = offset;
  return Progress::kDone;
}

Progress ParseBody(const std::string& bytes, size_t limit, size_t* consumed, Request* request) {
  const std::string* coding = request->Header("Transfer-Encoding");
  const std::string* length = request->Header("Content-Length");
  *consumed = 0;
  request->body.clear();
  if (coding != nullptr) {
    // Both framings at once is how requests are smuggled past proxies.
    if (length != nullptr || strcasecmp(coding->c_str(), "chunked") != 0) return Progress::kBad;
    return ParseChunks(bytes, limit, consumed, request);
  }
  if (length == nullptr) return Progress::kDone;
  size_t size = 0;
  if (!ParseSize(*length, 10, &size)) return Progress::kBad;
  if (size > limit) return Progress::kTooLarge;
  if (bytes.size() < size) return Progress::kNeedMore;
  request->body.assign(bytes, 0, size);
  *consumed = size;
  return Progress::kDone;
}

}  // namespace event
