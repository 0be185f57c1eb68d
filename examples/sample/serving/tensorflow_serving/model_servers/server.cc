#include "tensorflow_serving/model_servers/server.h"

#include <algorithm>
#include <chrono>

#include "tensorflow/core/platform/logging.h"
#include "tensorflow_serving/config/schemas.h"

namespace tensorflow {
namespace serving {
namespace {

const char kMetricsPath[] = "/monitoring/prometheus/metrics";

ModelConfig SingleModel(const ServerOptions& options) {
  ModelConfig model;
  model.name = options.model_name;
  model.base_path = options.model_base_path;
  model.platform = "tensorflow";
  return model;
}

}  // namespace

Server::Server(ServerOptions options, StopSignal* stop) : options_(std::move(options)), stop_(stop) {}

Server::~Server() {
  stop_->Raise();
  if (polling_.joinable()) polling_.join();
  http_.reset();  // first the ports, then what stands behind them
  grpc_.reset();
  core_.reset();
}

Status Server::ReadConfiguration(ServerCoreOptions* core) const {
  if (options_.model_base_path.empty() && options_.model_config_file.empty()) {
    return InvalidArgument("Both --model_base_path and --model_config_file are empty!");
  }
  if (options_.model_config_file.empty()) {
    core->models.push_back(SingleModel(options_));
  } else {
    const Status status = ReadModelServerConfig(options_.model_config_file, &core->models);
    if (!status.ok()) return status;
  }
  if (!options_.platform_config_file.empty()) return ReadPlatformConfigMap(options_.platform_config_file, &core->platforms);
  if (!options_.batching_parameters_file.empty()) {
    if (!options_.enable_batching) return InvalidArgument("--batching_parameters_file is set without --enable_batching.");
    protobuf::Message parameters;
    const Status status =
        ReadTextProto(options_.batching_parameters_file, "tensorflow.serving.BatchingParameters", &parameters);
    if (!status.ok()) return status;
  }
  core->platforms["tensorflow"];
  return Status();
}

Status Server::MetricsPath(std::string* path) const {
  *path = kMetricsPath;
  if (options_.monitoring_config_file.empty()) return Status();
  protobuf::Message config;
  const Status status = ReadTextProto(options_.monitoring_config_file, "tensorflow.serving.MonitoringConfig", &config);
  const protobuf::Message* prometheus = config.FindMessage("prometheus_config");
  if (prometheus != nullptr && !prometheus->Text("path", "").empty()) *path = prometheus->Text("path", "");
  return status;
}

Status Server::BuildAndStart() {
  ServerCoreOptions core;
  core.max_num_load_retries = options_.max_num_load_retries;
  core.load_retry_interval_micros = options_.load_retry_interval_micros;
  core.file_system_poll_wait_seconds = options_.file_system_poll_wait_seconds;
  core.allow_version_labels_for_unavailable_models = options_.allow_version_labels_for_unavailable_models;
  Status status = ReadConfiguration(&core);
  if (!status.ok()) return status;
  core_.reset(new ServerCore(std::move(core), stop_));
  status = core_->Start();
  if (!status.ok() || stop_->raised()) return status;
  if (options_.model_config_file_poll_wait_seconds > 0 && !options_.model_config_file.empty()) {
    polling_ = std::thread([this] { PollModelConfig(); });
  }
  status = OpenGrpcPort();
  return status.ok() ? OpenHttpPort() : status;
}

// The sample speaks no gRPC: whoever connects is let go. But the port is taken, and says so as the real one does.
Status Server::OpenGrpcPort() {
  std::string error;
  const auto let_go = [](int, int) {};
  grpc_ = event::Listener::Start(options_.grpc_port, 1024, let_go, &error);
  const std::string address = "0.0.0.0:" + std::to_string(options_.grpc_port);
  if (grpc_ == nullptr) {
    TF_LOG_ERROR("The gRPC port can't be had: " + address + ": " + error);
    return InvalidArgument("Failed to BuildAndStart gRPC server");
  }
  TF_LOG_INFO("Running gRPC ModelServer at 0.0.0.0:" + std::to_string(grpc_->port()) + " ...");
  return Status();
}

// A port that can't be had is no failure, here as in the real server: it goes on without the REST API.
Status Server::OpenHttpPort() {
  if (options_.http_port == 0) return Status();
  const std::string address = "localhost:" + std::to_string(options_.http_port);
  if (options_.http_port == options_.grpc_port) {
    TF_LOG_ERROR("--rest_api_port is the same as --port: there will be no HTTP/REST API.");
    return Status();
  }
  std::string metrics_path, error;
  const Status status = MetricsPath(&metrics_path);
  if (!status.ok()) return status;
  const int timeout_ms = std::max(options_.http_timeout_in_ms, 1);
  handler_.reset(new HttpRestApiHandler(core_.get(), metrics_path, timeout_ms));
  event::HttpOptions http;
  http.port = options_.http_port;
  http.timeout_ms = timeout_ms;
  http_ = event::HttpServer::Start(
      http, [this](const event::Request& request) { return handler_->Handle(request); }, &error);
  if (http_ == nullptr) {
    TF_LOG_ERROR("Failed to start HTTP Server at " + address + ": " + error);
  } else {
    TF_LOG_INFO("Exporting HTTP/REST API at:" + address + " ...");
  }
  return Status();
}

void Server::PollModelConfig() {
  while (!stop_->WaitFor(std::chrono::seconds(options_.model_config_file_poll_wait_seconds))) {
    ModelServerConfig models;
    Status status = ReadModelServerConfig(options_.model_config_file, &models);
    if (!status.ok()) {
      TF_LOG_ERROR("The model config can't be read: " + status.message());
      continue;
    }
    status = core_->ReloadConfig(models);
    if (!status.ok()) TF_LOG_ERROR("The changed model config is not taken over: " + status.message());
  }
}

void Server::WaitForTermination() { stop_->Wait(); }

}  // namespace serving
}  // namespace tensorflow
