// A model server that takes TensorFlow Serving's flags and speaks its REST API, for linear models:
//     tensorflow_model_server --port=8500 --rest_api_port=8501 --model_name=m --model_base_path=/models/m

#include <signal.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/core/util/command_line_flags.h"
#include "tensorflow_serving/core/stop_signal.h"
#include "tensorflow_serving/model_servers/server.h"
#include "tensorflow_serving/model_servers/version.h"

namespace {

using tensorflow::Flag;
using tensorflow::serving::ServerOptions;
using tensorflow::serving::StopSignal;

// Flags that are read and then left alone: linear models have no use for them.
struct IgnoredOptions {
  std::string grpc_socket_path;
  std::string ssl_config_file;
  std::string grpc_channel_arguments;
  std::string saved_model_tags = "serve";
  int32_t http_num_threads = 0;
  int64_t session_parallelism = 0;
  int64_t intra_op_parallelism = 0;
  int64_t inter_op_parallelism = 0;
  float gpu_memory_fraction = 0;
  bool flush_filesystem_caches = true;
  bool enable_model_warmup = true;
  bool remove_unused_fields = false;
  bool use_tflite_model = false;
};

std::vector<Flag> FlagList(ServerOptions* options, IgnoredOptions* ignored, bool* version) {
  return {
      Flag("port", &options->grpc_port, "port to listen on for gRPC"),
      Flag("grpc_socket_path", &ignored->grpc_socket_path, "UNIX socket to listen on for gRPC as well"),
      Flag("rest_api_port", &options->http_port, "port to listen on for HTTP/REST; 0 switches it off; not the one of --port"),
      Flag("rest_api_num_threads", &ignored->http_num_threads, "threads for HTTP/REST"),
      Flag("rest_api_timeout_in_ms", &options->http_timeout_in_ms, "time limit for HTTP/REST calls"),
      Flag("enable_batching", &options->enable_batching, "batch requests (ignored with --platform_config_file)"),
      Flag("allow_version_labels_for_unavailable_models", &options->allow_version_labels_for_unavailable_models,
           "let labels be given to versions that are not available yet"),
      Flag("batching_parameters_file", &options->batching_parameters_file, "file with a BatchingParameters text"),
      Flag("model_config_file", &options->model_config_file,
           "file with a ModelServerConfig text; --model_name and --model_base_path are ignored then"),
      Flag("model_config_file_poll_wait_seconds", &options->model_config_file_poll_wait_seconds,
           "seconds between two looks at --model_config_file; 0 reads it once"),
      Flag("model_name", &options->model_name, "name of the one model"),
      Flag("model_base_path", &options->model_base_path, "directory that holds the versions of the one model"),
      Flag("max_num_load_retries", &options->max_num_load_retries, "how often a failed load is tried again"),
      Flag("load_retry_interval_micros", &options->load_retry_interval_micros, "microseconds between two tries"),
      Flag("file_system_poll_wait_seconds", &options->file_system_poll_wait_seconds,
           "seconds between two looks for new versions; 0 looks once"),
      Flag("flush_filesystem_caches", &ignored->flush_filesystem_caches, "drop file caches after loads"),
      Flag("tensorflow_session_parallelism", &ignored->session_parallelism, "threads of a session"),
      Flag("tensorflow_intra_op_parallelism", &ignored->intra_op_parallelism, "threads within an operation"),
      Flag("tensorflow_inter_op_parallelism", &ignored->inter_op_parallelism, "operations at once"),
      Flag("ssl_config_file", &ignored->ssl_config_file, "file with an SSLConfig text"),
      Flag("platform_config_file", &options->platform_config_file,
           "file with a PlatformConfigMap text, used in place of what other flags say about sessions"),
      Flag("per_process_gpu_memory_fraction", &ignored->gpu_memory_fraction, "share of the GPU's memory"),
      Flag("saved_model_tags", &ignored->saved_model_tags, "tags of the graph to load"),
      Flag("grpc_channel_arguments", &ignored->grpc_channel_arguments, "name=value,... for gRPC"),
      Flag("enable_model_warmup", &ignored->enable_model_warmup, "replay recorded requests at load time"),
      Flag("version", version, "print the version and end"),
      Flag("monitoring_config_file", &options->monitoring_config_file, "file with a MonitoringConfig text"),
      Flag("remove_unused_fields_from_bundle_metagraph", &ignored->remove_unused_fields, "save memory"),
      Flag("use_tflite_model", &ignored->use_tflite_model, "load model.tflite"),
  };
}

}  // namespace

int main(int argc, char** argv) {
  ServerOptions options;
  IgnoredOptions ignored;
  bool version = false;
  const std::vector<Flag> flags = FlagList(&options, &ignored, &version);
  const std::string usage = tensorflow::Flags::Usage(argv[0], flags);
  if (!tensorflow::Flags::Parse(&argc, argv, flags)) {
    fputs(usage.c_str(), stdout);
    return -1;
  }
  if (version) {
    printf("TensorFlow ModelServer: %s\nTensorFlow Library: %s\n", TF_Serving_Version(), TF_Version());
    return 0;
  }
  if (argc != 1) {
    // The real server starts all the same, so this one does.
    printf("unknown argument: %s\n%s", argv[1], usage.c_str());
    fflush(stdout);
  }

  // No other signal is handled, as in the real server: SIGTERM ends it at once, but not where it is process 1.
  signal(SIGPIPE, SIG_IGN);
  StopSignal stop;
  tensorflow::serving::Server server(options, &stop);
  const tensorflow::Status status = server.BuildAndStart();
  if (!status.ok()) {
    printf("Failed to start server. Error: %s\n", status.ToString().c_str());
    return -1;
  }
  server.WaitForTermination();
  return 0;
}
