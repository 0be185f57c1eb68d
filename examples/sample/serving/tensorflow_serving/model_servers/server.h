#ifndef TENSORFLOW_SERVING_MODEL_SERVERS_SERVER_H_
#define TENSORFLOW_SERVING_MODEL_SERVERS_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "event/http_server.h"
#include "event/listener.h"
#include "tensorflow/core/lib/core/status.h"
#include "tensorflow_serving/core/server_core.h"
#include "tensorflow_serving/core/stop_signal.h"
#include "tensorflow_serving/model_servers/http_rest_api_handler.h"

namespace tensorflow {
namespace serving {

// What the command line says. Flags that the sample only accepts are not in here but in main.cc.
struct ServerOptions {
  int32_t grpc_port = 8500;
  int32_t http_port = 0;
  int32_t http_timeout_in_ms = 30000;
  bool enable_batching = false;
  std::string batching_parameters_file;
  bool allow_version_labels_for_unavailable_models = false;
  std::string model_name = "default";
  std::string model_base_path;
  std::string model_config_file;
  int32_t model_config_file_poll_wait_seconds = 0;
  std::string platform_config_file;
  std::string monitoring_config_file;
  int32_t max_num_load_retries = 5;
  int64_t load_retry_interval_micros = 60LL * 1000 * 1000;
  int32_t file_system_poll_wait_seconds = 1;
};

class Server {
 public:
  Server(ServerOptions options, StopSignal* stop);
  ~Server();

  // Loads the models, then opens the ports. Also returns, successfully, when it was told to stop before that was done.
  Status BuildAndStart();
  void WaitForTermination();

 private:
  Status ReadConfiguration(ServerCoreOptions* core) const;
  Status MetricsPath(std::string* path) const;
  Status OpenGrpcPort();
  Status OpenHttpPort();
  void PollModelConfig();

  const ServerOptions options_;
  StopSignal* const stop_;
  std::unique_ptr<ServerCore> core_;
  std::unique_ptr<HttpRestApiHandler> handler_;
  std::unique_ptr<event::Listener> grpc_;
  std::unique_ptr<event::HttpServer> http_;
  std::thread polling_;
};

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_MODEL_SERVERS_SERVER_H_
