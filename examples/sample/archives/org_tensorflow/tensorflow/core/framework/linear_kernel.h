#ifndef TENSORFLOW_CORE_FRAMEWORK_LINEAR_KERNEL_H_
#define TENSORFLOW_CORE_FRAMEWORK_LINEAR_KERNEL_H_

#include <cstddef>

namespace tensorflow {

// The only kind of graph that this TensorFlow knows: y = slope * x + intercept, element by element.
struct LinearGraph {
  float slope = 1;
  float intercept = 0;
};

using CpuKernel = void (*)(const LinearGraph& graph, const float* x, float* y, size_t count);

// The kernel that runs graphs on the CPU; xla_cpu_jit puts its own in place, if it is linked in.
CpuKernel GetCpuKernel();
void SetCpuKernel(CpuKernel kernel);

}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_FRAMEWORK_LINEAR_KERNEL_H_
