#include "tensorflow/core/platform/logging.h"

#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace tensorflow {
namespace internal {
namespace {

int MinimumLevel() {
  const char* text = getenv("TF_CPP_MIN_LOG_LEVEL");
  return text == nullptr ? 0 : atoi(text);
}

int LevelOf(char severity) { return severity == 'I' ? 0 : severity == 'W' ? 1 : 2; }

}  // namespace

void LogLine(char severity, const char* file, int line, const std::string& message) {
  static const int minimum = MinimumLevel();
  if (LevelOf(severity) < minimum) return;
  timeval now;
  gettimeofday(&now, nullptr);
  tm parts;
  localtime_r(&now.tv_sec, &parts);
  char when[32];
  strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &parts);
  char head[64];
  snprintf(head, sizeof(head), "%s.%06ld: %c ", when, static_cast<long>(now.tv_usec), severity);
  const std::string text = std::string(head) + file + ":" + std::to_string(line) + "] " + message + "\n";
  // One write, so that lines of several threads don't mix.
  if (write(STDERR_FILENO, text.data(), text.size()) < 0) return;
}

}  // namespace internal
}  // namespace tensorflow
