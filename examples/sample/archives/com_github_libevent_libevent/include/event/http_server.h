#ifndef EVENT_HTTP_SERVER_H_
#define EVENT_HTTP_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "event/http_parser.h"
#include "event/listener.h"

namespace event {

struct Response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
};

using Handler = std::function<Response(const Request&)>;

struct HttpOptions {
  int port = 0;
  int timeout_ms = 30000;  // how long a connection may be silent
  size_t largest_body = 256 << 20;
  int most_connections = 1024;
};

// Serves HTTP until it is destroyed; requests that are being answered then are still answered.
class HttpServer {
 public:
  // Null, with the reason in `error`, if the port can't be had.
  static std::unique_ptr<HttpServer> Start(const HttpOptions& options, Handler handler, std::string* error);

 private:
  HttpServer(const HttpOptions& options, Handler handler);

  void Converse(int socket, int stopping);

  HttpOptions options_;
  Handler handler_;
  std::unique_ptr<Listener> listener_;
};

}  // namespace event

#endif  // EVENT_HTTP_SERVER_H_
