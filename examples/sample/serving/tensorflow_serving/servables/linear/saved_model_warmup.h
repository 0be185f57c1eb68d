#ifndef TENSORFLOW_SERVING_SERVABLES_LINEAR_SAVED_MODEL_WARMUP_H_
#define TENSORFLOW_SERVING_SERVABLES_LINEAR_SAVED_MODEL_WARMUP_H_

#include <string>

#include "tensorflow/core/lib/core/status.h"
#include "tensorflow_serving/servables/linear/linear_servable.h"

namespace tensorflow {
namespace serving {

// Sends the recorded requests of a version's directory through it, before it is offered. As with the real server one
// that fails, a damaged file and more than 1000 requests keep the version from being loaded; without a file nothing is
// done. Checksums are not compared.
Status RunSavedModelWarmup(const std::string& directory, const LinearServable& servable);

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_SERVABLES_LINEAR_SAVED_MODEL_WARMUP_H_
