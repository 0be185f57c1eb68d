#include "tensorflow_serving/model_servers/http_rest_api_handler.h"

#include <chrono>
#include <vector>

#include "absl/strings/string_util.h"
#include "rapidjson/value.h"
#include "tensorflow/core/lib/monitoring/counter.h"
#include "tensorflow_serving/model_servers/json_tensor.h"

namespace tensorflow {
namespace serving {
namespace {

int HttpStatusOf(Code code) {
  switch (code) {
    case Code::kOk: return 200;
    case Code::kInvalidArgument: return 400;
    case Code::kNotFound: return 404;
    case Code::kFailedPrecondition: return 412;
    case Code::kUnavailable: return 503;
    case Code::kUnknown: break;
  }
  return 500;
}

std::string Metrics() {
  monitoring::Increment(":sample:npu:predictions_total", 0);  // shown from the start, whether or not an NPU ever counts
  std::string text;
  for (const auto& counter : monitoring::Counters()) {
    text += "# TYPE " + counter.first + " counter\n" + counter.first + "{} " + std::to_string(counter.second) + "\n";
  }
  return text;
}

std::string TensorInfoJson(const TensorInfo& info) {
  return "{\n     " + json::Quote(info.key) +
         ": {\n      \"dtype\": \"DT_FLOAT\",\n      \"tensor_shape\": {\n       \"dim\": [],\n       \"unknown_rank\": true\n"
         "      },\n      \"name\": " +
         json::Quote(info.name) + "\n     }\n    }";
}

}  // namespace

HttpRestApiHandler::HttpRestApiHandler(const ServerCore* core, std::string metrics_path, int timeout_ms)
    : core_(core), metrics_path_(std::move(metrics_path)), timeout_ms_(timeout_ms) {}

event::Response HttpRestApiHandler::Handle(const event::Request& request) const {
  event::Response response;
  if (request.path == metrics_path_ && request.method == "GET") {
    response.content_type = "text/plain";
    response.body = Metrics();
    return response;
  }
  const auto started = std::chrono::steady_clock::now();
  const Status status = Process(request, &response.body);
  // As in the real server, whose session is given up at the timeout but is left only when its operators have ended: the
  // caller has waited for the compilation, and gets nothing for it.
  const auto took = std::chrono::steady_clock::now() - started;
  if (request.method == "POST" && took > std::chrono::milliseconds(timeout_ms_)) {
    response.status = 504;
    response.body = "{ \"error\": \"Timed out waiting for notification\" }";
    return response;
  }
  response.status = HttpStatusOf(status.code());
  if (!status.ok()) response.body = "{ \"error\": " + json::Quote(status.message()) + " }";
  return response;
}

// False for a path that is none of the API's. Its parts are split at "/", and the last one at ":".
bool HttpRestApiHandler::ParseTarget(const std::string& path, Target* target, Status* status) {
  std::string rest = path;
  if (!absl::ConsumePrefix(&rest, "/v1/models")) return false;
  const size_t colon = rest.find(':');
  if (colon != std::string::npos) {
    target->method = rest.substr(colon + 1);
    rest.erase(colon);
  }
  std::vector<std::string> parts = absl::StrSplit(rest, '/');
  if (!parts[0].empty()) return false;
  if (parts.size() > 2 && parts.back() == "metadata" && colon == std::string::npos) {
    target->subresource = parts.back();
    parts.pop_back();
  }
  if (parts.size() == 4 && parts[2] == "versions" && parts[3].find_first_not_of("0123456789") == std::string::npos) {
    if (!absl::SimpleAtoi(parts[3], &target->version)) {
      *status = InvalidArgument("Failed to convert version: " + parts[3] + " to numeric.");
    }
    parts.resize(2);
  }
  if (parts.size() == 2) target->model = parts[1];
  return parts.size() <= 2;
}

Status HttpRestApiHandler::Process(const event::Request& request, std::string* output) const {
  const Status malformed = InvalidArgument("Malformed request: " + request.method + " " + request.path);
  Target target;
  Status status;
  if (!ParseTarget(request.path, &target, &status)) return malformed;
  if (!status.ok()) return status;
  if (request.method == "POST" && target.method == "predict" && !target.model.empty()) {
    return Predict(target, request.body, output);
  }
  if (request.method == "POST" && (target.method == "classify" || target.method == "regress")) {
    return InvalidArgument("The sample server knows :predict only, not :" + target.method);
  }
  if (request.method != "GET" || !target.method.empty()) return malformed;
  if (target.model.empty()) return InvalidArgument("Missing model name in request.");
  return target.subresource.empty() ? ModelStatus(target, output) : Metadata(target, output);
}

Status HttpRestApiHandler::ModelStatus(const Target& target, std::string* output) const {
  VersionStatuses statuses;
  const Status status = core_->GetVersionStatuses(target.model, target.version, &statuses);
  if (!status.ok()) return status;
  std::string entries;
  for (const auto& entry : statuses) {
    entries += entries.empty() ? "" : ",\n";
    entries += "  {\n   \"version\": \"" + std::to_string(entry.first) + "\",\n   \"state\": \"" +
               VersionStateName(entry.second.state) + "\",\n   \"status\": {\n    \"error_code\": \"" +
               CodeName(entry.second.status.code()) +
               "\",\n    \"error_message\": " + json::Quote(entry.second.status.message()) + "\n   }\n  }";
  }
  *output = "{\n \"model_version_status\": [\n" + entries + "\n ]\n}\n";
  return Status();
}

Status HttpRestApiHandler::Metadata(const Target& target, std::string* output) const {
  std::shared_ptr<LinearServable> servable;
  const Status status = core_->GetServable(target.model, target.version, &servable);
  if (!status.ok()) return status;
  *output = "{\n\"model_spec\":{\n \"name\": " + json::Quote(target.model) +
            ",\n \"signature_name\": \"\",\n \"version\": \"" + std::to_string(servable->id().version) +
            "\"\n}\n,\n\"metadata\": {\"signature_def\": {\n \"signature_def\": {\n  " +
            json::Quote(servable->signature_name()) + ": {\n    \"inputs\": " + TensorInfoJson(servable->input()) +
            ",\n    \"outputs\": " + TensorInfoJson(servable->output()) +
            ",\n    \"method_name\": \"tensorflow/serving/predict\"\n  }\n }\n}\n}\n}\n";
  return Status();
}

Status HttpRestApiHandler::Predict(const Target& target, const std::string& body, std::string* output) const {
  PredictRequest request;
  Status status = request.Parse(body);
  if (!status.ok()) return status;
  std::shared_ptr<LinearServable> servable;
  status = core_->GetServable(target.model, target.version, &servable);
  if (!status.ok()) return status;
  const std::string signature = request.signature_name().empty() ? "serving_default" : request.signature_name();
  if (signature != servable->signature_name()) {
    return InvalidArgument("Serving signature name: \"" + signature + "\" not found in signature def");
  }
  Tensor tensor;
  status = request.Input(servable->input().key, &tensor);
  if (!status.ok()) return status;
  tensor.values = servable->Predict(tensor.values);
  *output = FormatPredictResponse(request.format(), tensor);
  return Status();
}

}  // namespace serving
}  // namespace tensorflow
