#include "event/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace event {
namespace {

int Bind(int port, int* actual) {
  const int handle = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (handle < 0) return -1;
  const int on = 1;
  setsockopt(handle, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address;
  memset(&address, 0, sizeof(address));
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  socklen_t size = sizeof(address);
  sockaddr* const generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(handle, generic, size) != 0 || listen(handle, SOMAXCONN) != 0 || getsockname(handle, generic, &size) != 0) {
    const int problem = errno;
    close(handle);
    errno = problem;
    return -1;
  }
  *actual = ntohs(address.sin_port);
  return handle;
}

}  // namespace

int WaitReadable(int socket, int stopping, int timeout_ms) {
  pollfd handles[2] = {{socket, POLLIN, 0}, {stopping, POLLIN, 0}};
  int ready;
  do {
    ready = poll(handles, 2, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (handles[1].revents != 0) return -1;
  return ready <= 0 ? 0 : 1;
}

std::unique_ptr<Listener> Listener::Start(int port, int most_connections, Conversation conversation, std::string* error) {
  std::unique_ptr<Listener> listener(new Listener);
  listener->most_connections_ = most_connections;
  listener->conversation_ = std::move(conversation);
  if (port < 0 || port > 65535) {
    *error = "there is no port " + std::to_string(port);
    return nullptr;
  }
  listener->socket_ = Bind(port, &listener->port_);
  if (listener->socket_ < 0 || pipe2(listener->stop_pipe_, O_CLOEXEC) != 0) {
    *error = strerror(errno);
    return nullptr;
  }
  listener->accepting_ = std::thread([raw = listener.get()] { raw->AcceptLoop(); });
  return listener;
}

Listener::~Listener() {
  if (accepting_.joinable()) {
    close(stop_pipe_[1]);  // end of file makes the other end readable, for everyone and for good
    accepting_.join();
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return open_ == 0; });
    close(stop_pipe_[0]);
  }
  if (socket_ >= 0) close(socket_);
}

void Listener::AcceptLoop() {
  while (WaitReadable(socket_, stop_pipe_[0], -1) >= 0) {
    const int socket = accept4(socket_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) {
      // Out of descriptors: the connection stays in the queue, so this would spin.
      if (errno == EMFILE || errno == ENFILE) usleep(10000);
      continue;
    }
    Hold(socket);
  }
}

void Listener::Hold(int socket) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (open_ >= most_connections_) {
      close(socket);
      return;
    }
    ++open_;
  }
  const int on = 1;
  setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  const auto finish = [this, socket] {
    close(socket);
    std::lock_guard<std::mutex> lock(mutex_);
    --open_;
    changed_.notify_all();
  };
  try {
    std::thread([this, socket, finish] {
      conversation_(socket, stop_pipe_[0]);
      finish();
    }).detach();
  } catch (const std::system_error&) {  // no more threads to be had
    finish();
  }
}

}  // namespace event
