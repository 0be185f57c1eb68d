#ifndef GE_RUNNER_H_
#define GE_RUNNER_H_

// The sample's CANN toolkit: libge_runner.so, which the adapter needs and which is not there where servers are built.

#include <cstddef>

namespace ge {

bool Reserve(size_t bytes);
void RunLinear(float slope, float intercept, const float* x, float* y, size_t count);

}  // namespace ge

#endif  // GE_RUNNER_H_
