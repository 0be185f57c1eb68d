#ifndef EVENT_HTTP_PARSER_H_
#define EVENT_HTTP_PARSER_H_

// HTTP/1.x requests, from bytes that arrive in pieces.

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace event {

struct Request {
  std::string method;
  std::string path;   // without the query
  std::string query;  // what stands behind the "?"
  int minor_version = 1;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  // The value of the first header of that name, whatever its letters' case; null if there is none.
  const std::string* Header(const std::string& name) const;
  bool KeepAlive() const;
};

enum class Progress { kNeedMore, kDone, kBad, kTooLarge };

// Reads the request line and the headers. `consumed` is set to what they took of `bytes` when done.
Progress ParseHead(const std::string& bytes, size_t* consumed, Request* request);

// Reads a body of the framing that the head names, into request->body.
Progress ParseBody(const std::string& bytes, size_t limit, size_t* consumed, Request* request);

}  // namespace event

#endif  // EVENT_HTTP_PARSER_H_
