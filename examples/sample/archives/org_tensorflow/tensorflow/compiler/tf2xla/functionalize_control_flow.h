#ifndef TENSORFLOW_COMPILER_TF2XLA_FUNCTIONALIZE_CONTROL_FLOW_H_
#define TENSORFLOW_COMPILER_TF2XLA_FUNCTIONALIZE_CONTROL_FLOW_H_

#include "tensorflow/core/framework/linear_kernel.h"
#include "tensorflow/core/lib/core/status.h"

namespace tensorflow {

// Puts functions in place of loops and conditions. A linear graph has none, so it stays as it is.
Status FunctionalizeControlFlow(LinearGraph* graph);

}  // namespace tensorflow

#endif  // TENSORFLOW_COMPILER_TF2XLA_FUNCTIONALIZE_CONTROL_FLOW_H_
