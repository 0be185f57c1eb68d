#include "tensorflow_serving/core/stop_signal.h"

namespace tensorflow {
namespace serving {

void StopSignal::Raise() {
  std::lock_guard<std::mutex> lock(mutex_);
  raised_ = true;
  changed_.notify_all();
}

bool StopSignal::raised() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return raised_;
}

bool StopSignal::WaitFor(std::chrono::microseconds time) const {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, time, [this] { return raised_; });
}

void StopSignal::Wait() const {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return raised_; });
}

}  // namespace serving
}  // namespace tensorflow
