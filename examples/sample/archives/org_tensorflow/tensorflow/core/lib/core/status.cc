#include "tensorflow/core/lib/core/status.h"

namespace tensorflow {
namespace {

struct Names {
  const char* proto;
  const char* prose;
};

Names NamesOf(Code code) {
  switch (code) {
    case Code::kOk: return {"OK", "OK"};
    case Code::kInvalidArgument: return {"INVALID_ARGUMENT", "Invalid argument"};
    case Code::kNotFound: return {"NOT_FOUND", "Not found"};
    case Code::kFailedPrecondition: return {"FAILED_PRECONDITION", "Failed precondition"};
    case Code::kUnavailable: return {"UNAVAILABLE", "Unavailable"};
    case Code::kUnknown: break;
  }
  return {"UNKNOWN", "Unknown"};
}

}  // namespace

const char* CodeName(Code code) { return NamesOf(code).proto; }

std::string Status::ToString() const {
  return ok() ? "OK" : std::string(NamesOf(code_).prose) + ": " + message_;
}

}  // namespace tensorflow
