#ifndef EVENT_LISTENER_H_
#define EVENT_LISTENER_H_

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

namespace event {

// A TCP port that is listened on; every connection gets a thread.
class Listener {
 public:
  // `stopping` becomes readable when the listener is going to end; the function is to return soon then.
  using Conversation = std::function<void(int socket, int stopping)>;

  // Port 0 means any free one. Null, with the reason in `error`, if the port can't be had.
  static std::unique_ptr<Listener> Start(int port, int most_connections, Conversation conversation, std::string* error);
  ~Listener();

  int port() const { return port_; }

 private:
  Listener() = default;
  void AcceptLoop();
  void Hold(int socket);

  int port_ = 0;
  int socket_ = -1;
  int stop_pipe_[2] = {-1, -1};
  int most_connections_ = 0;
  Conversation conversation_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int open_ = 0;
  std::thread accepting_;
};

// Waits until `socket` can be read: 1 when it can, 0 after the timeout, -1 when `stopping` says so.
int WaitReadable(int socket, int stopping, int timeout_ms);

}  // namespace event

#endif  // EVENT_LISTENER_H_
