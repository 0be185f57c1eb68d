// Replaces the plain CPU kernel by one that runs a compiled expression. Same numbers, other road.

#include "llvm/IR/expression.h"
#include "tensorflow/core/framework/linear_kernel.h"

namespace tensorflow {

void RunCompiled(const LinearGraph& graph, const float* x, float* y, size_t count) {
  llvm::Expression expression;
  expression.Input().Constant(graph.slope).Multiply().Constant(graph.intercept).Add();
  expression.Run(x, y, count);
}

namespace {

const bool registered = (SetCpuKernel(&RunCompiled), true);

}  // namespace
}  // namespace tensorflow
