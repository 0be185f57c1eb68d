#include "ge_runner.h"

namespace ge {

bool Reserve(size_t bytes) { return bytes < (static_cast<size_t>(32) << 30); }

void RunLinear(float slope, float intercept, const float* x, float* y, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float product = slope * x[i];
    y[i] = product + intercept;
  }
}

}  // namespace ge
