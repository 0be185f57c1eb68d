#ifndef TENSORFLOW_SERVING_CORE_STOP_SIGNAL_H_
#define TENSORFLOW_SERVING_CORE_STOP_SIGNAL_H_

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace tensorflow {
namespace serving {

// Tells every thread that the server is to end, and wakes those that only wait for time to pass.
class StopSignal {
 public:
  void Raise();
  bool raised() const;

  // Waits for the signal at most that long; tells whether it was raised.
  bool WaitFor(std::chrono::microseconds time) const;
  void Wait() const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool raised_ = false;
};

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_CORE_STOP_SIGNAL_H_
