#ifndef TENSORFLOW_CORE_LIB_CORE_STATUS_H_
#define TENSORFLOW_CORE_LIB_CORE_STATUS_H_

#include <string>
#include <utility>

namespace tensorflow {

enum class Code { kOk, kInvalidArgument, kNotFound, kFailedPrecondition, kUnavailable, kUnknown };

// The outcome of something that can fail.
class Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

  // "Not found: there is no such file"; "OK" for success.
  std::string ToString() const;

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// The code as protobuf spells it: "NOT_FOUND".
const char* CodeName(Code code);

inline Status InvalidArgument(std::string message) { return Status(Code::kInvalidArgument, std::move(message)); }
inline Status NotFound(std::string message) { return Status(Code::kNotFound, std::move(message)); }

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_LIB_CORE_STATUS_H_
