#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_HTTP_REST_API_HANDLER_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_HTTP_REST_API_HANDLER_H_

#include <cstdint>
#include <string>

#include "event/http_server.h"
#include "tensorflow/core/lib/core/status.h"
#include "tensorflow_serving/core/server_core.h"

namespace tensorflow {
namespace serving {

// The REST API of TensorFlow Serving 1.15:
//   GET  /v1/models/NAME[/versions/N][/metadata]
//   POST /v1/models/NAME[/versions/N]:predict
// and the metrics for Prometheus.
class HttpRestApiHandler {
 public:
  // A prediction that takes longer than `timeout_ms` is answered with 504 in place of its result.
  HttpRestApiHandler(const ServerCore* core, std::string metrics_path, int timeout_ms);

  event::Response Handle(const event::Request& request) const;

 private:
  struct Target {
    std::string model;
    int64_t version = -1;  // the newest
    std::string subresource;  // "metadata" or ""
    std::string method;       // "predict" ... or ""
  };

  static bool ParseTarget(const std::string& path, Target* target, Status* status);
  Status Process(const event::Request& request, std::string* output) const;
  Status ModelStatus(const Target& target, std::string* output) const;
  Status Metadata(const Target& target, std::string* output) const;
  Status Predict(const Target& target, const std::string& body, std::string* output) const;

  const ServerCore* core_;
  const std::string metrics_path_;
  const int timeout_ms_;
};

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_HTTP_REST_API_HANDLER_H_
