#include "event/http_server.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>

namespace event {
namespace {

const char* Reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 400: return "Bad Request";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 412: return "Precondition Failed";
    case 413: return "Payload Too Large";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    default: return "Unknown";
  }
}

bool Send(int socket, const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count = send(socket, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    sent += static_cast<size_t>(count);
  }
  return true;
}

bool Answer(int socket, const Response& response, bool keep, bool with_body) {
  std::string bytes = "HTTP/1.1 " + std::to_string(response.status) + " " + Reason(response.status) +
                      "\r\nContent-Type: " + response.content_type +
                      "\r\nContent-Length: " + std::to_string(response.body.size()) + "\r\n" +
                      (keep ? "" : "Connection: close\r\n") + "\r\n";
  if (with_body) bytes += response.body;
  return Send(socket, bytes);
}

// Answers a request that is beyond reading. The rest of it is read away first, for closing a socket with unread bytes
// makes TCP throw the answer away.
void Refuse(int socket, int stopping, int status) {
  Response response;
  response.status = status;
  response.body = std::string("{ \"error\": \"") + Reason(status) + "\" }";
  if (!Answer(socket, response, false, true)) return;
  shutdown(socket, SHUT_WR);
  char rest[4096];
  for (int i = 0; i < 256 && WaitReadable(socket, stopping, 200) > 0; ++i) {
    if (recv(socket, rest, sizeof(rest), 0) <= 0) return;
  }
}

}  // namespace

HttpServer::HttpServer(const HttpOptions& options, Handler handler)
    : options_(options), handler_(std::move(handler)) {}

std::unique_ptr<HttpServer> HttpServer::Start(const HttpOptions& options, Handler handler, std::string* error) {
  std::unique_ptr<HttpServer> server(new HttpServer(options, std::move(handler)));
  HttpServer* const raw = server.get();
  server->listener_ = Listener::Start(
      options.port, options.most_connections, [raw](int socket, int stopping) { raw->Converse(socket, stopping); }, error);
  if (server->listener_ == nullptr) return nullptr;
  return server;
}

void HttpServer::Converse(int socket, int stopping) {
  const timeval timeout = {options_.timeout_ms / 1000, (options_.timeout_ms % 1000) * 1000};
  setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  std::string bytes;
  Request request;
  bool have_head = false, told_to_continue = false;
  for (;;) {
    Progress progress = Progress::kNeedMore;
    size_t consumed = 0;
    if (!have_head) {
      progress = ParseHead(bytes, &consumed, &request);
      if (progress == Progress::kDone) {
        have_head = true;
        bytes.erase(0, consumed);
      } else if (progress == Progress::kTooLarge) {
        return Refuse(socket, stopping, 431);
      }
    }
    if (have_head) {
      progress = ParseBody(bytes, options_.largest_body, &consumed, &request);
      if (progress == Progress::kTooLarge) return Refuse(socket, stopping, 413);
    }
    if (progress == Progress::kBad) return Refuse(socket, stopping, 400);
    if (progress == Progress::kDone) {
      bytes.erase(0, consumed);
      const bool keep = request.KeepAlive();
      if (!Answer(socket, handler_(request), keep, request.method != "HEAD") || !keep) return;
      have_head = told_to_continue = false;
      continue;
    }
    const std::string* expect = have_head ? request.Header("Expect") : nullptr;
    if (expect != nullptr && *expect == "100-continue" && !told_to_continue) {
      told_to_continue = true;
      if (!Send(socket, "HTTP/1.1 100 Continue\r\n\r\n")) return;
    }
    if (WaitReadable(socket, stopping, options_.timeout_ms) <= 0) return;
    char piece[64 << 10];
    const ssize_t count = recv(socket, piece, sizeof(piece), 0);
    if (count <= 0) return;
    bytes.append(piece, static_cast<size_t>(count));
  }
}

}  // namespace event
