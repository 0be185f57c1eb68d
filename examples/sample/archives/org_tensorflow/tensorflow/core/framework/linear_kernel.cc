#include "tensorflow/core/framework/linear_kernel.h"

namespace tensorflow {
namespace {

void RunPlain(const LinearGraph& graph, const float* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float product = graph.slope * x[i];
    y[i] = product + graph.intercept;
  }
}

CpuKernel current = &RunPlain;  // constant-initialised, so static constructors may replace it

}  // namespace

CpuKernel GetCpuKernel() { return current; }
void SetCpuKernel(CpuKernel kernel) { current = kernel; }

}  // namespace tensorflow
