#ifndef TENSORFLOW_CORE_PLATFORM_LOGGING_H_
#define TENSORFLOW_CORE_PLATFORM_LOGGING_H_

#include <string>

namespace tensorflow {
namespace internal {

// Writes one whole line to stderr: time, severity ('I', 'W', 'E'), place, message. TF_CPP_MIN_LOG_LEVEL (0 to 3) hides
// the lower severities.
void LogLine(char severity, const char* file, int line, const std::string& message);

}  // namespace internal
}  // namespace tensorflow

#define TF_LOG_INFO(message) ::tensorflow::internal::LogLine('I', __FILE__, __LINE__, (message))
#define TF_LOG_WARNING(message) ::tensorflow::internal::LogLine('W', __FILE__, __LINE__, (message))
#define TF_LOG_ERROR(message) ::tensorflow::internal::LogLine('E', __FILE__, __LINE__, (message))

#endif  // TENSORFLOW_CORE_PLATFORM_LOGGING_H_
