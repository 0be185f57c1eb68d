#include "tensorflow/compiler/tf2xla/functionalize_control_flow.h"

namespace tensorflow {

Status FunctionalizeControlFlow(LinearGraph* graph) {
  if (graph == nullptr) return Status(Code::kInvalidArgument, "there is no graph");
  return Status();
}

}  // namespace tensorflow
