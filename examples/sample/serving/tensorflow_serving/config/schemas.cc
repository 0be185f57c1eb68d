// The message types that the server reads from files: field names, types and enum values of TensorFlow 1.15 and TensorFlow
// Serving 1.15, as far as a deployment can meet them. What is not in here is refused, as the real server refuses what it
// does not know.

#include "tensorflow_serving/config/schemas.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "google/protobuf/schema.h"

namespace tensorflow {
namespace serving {
namespace {

using protobuf::FieldType;
using protobuf::Type;

const char kModelServerConfig[] = "tensorflow.serving.ModelServerConfig";
const char kModelConfigList[] = "tensorflow.serving.ModelConfigList";
const char kModelConfig[] = "tensorflow.serving.ModelConfig";
const char kLabel[] = "tensorflow.serving.ModelConfig.VersionLabelsEntry";
const char kPolicy[] = "tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy";
const char kLatest[] = "tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest";
const char kAll[] = "tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy.All";
const char kSpecific[] = "tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific";
const char kMonitoring[] = "tensorflow.serving.MonitoringConfig";
const char kPrometheus[] = "tensorflow.serving.PrometheusConfig";
const char kPlatformMap[] = "tensorflow.serving.PlatformConfigMap";
const char kPlatformEntry[] = "tensorflow.serving.PlatformConfigMap.PlatformConfigsEntry";
const char kPlatform[] = "tensorflow.serving.PlatformConfig";
const char kAdapter[] = "tensorflow.serving.SavedModelBundleSourceAdapterConfig";
const char kBundle[] = "tensorflow.serving.SessionBundleConfig";
const char kBatching[] = "tensorflow.serving.BatchingParameters";
const char kWarmup[] = "tensorflow.serving.ModelWarmupOptions";
const char kIntValue[] = "google.protobuf.Int64Value";
const char kStringValue[] = "google.protobuf.StringValue";
const char kConfig[] = "tensorflow.ConfigProto";
const char kDeviceCount[] = "tensorflow.ConfigProto.DeviceCountEntry";
const char kThreadPool[] = "tensorflow.ThreadPoolOptionProto";
const char kExperimental[] = "tensorflow.ConfigProto.Experimental";
const char kGpu[] = "tensorflow.GPUOptions";
const char kGraph[] = "tensorflow.GraphOptions";
const char kOptimizer[] = "tensorflow.OptimizerOptions";
const char kRewriter[] = "tensorflow.RewriterConfig";
const char kParallel[] = "tensorflow.AutoParallelOptions";
const char kCustom[] = "tensorflow.RewriterConfig.CustomGraphOptimizer";
const char kParameter[] = "tensorflow.RewriterConfig.CustomGraphOptimizer.ParameterMapEntry";
const char kAttr[] = "tensorflow.AttrValue";
const char kList[] = "tensorflow.AttrValue.ListValue";
const char kLinearModel[] = "sample.LinearModel";
const char kTensor[] = "sample.Tensor";

const char kToggle[] = "DEFAULT=0 ON=1 OFF=2 AGGRESSIVE=3";
// No OFF among these, although session options in Python are often written so: there it is the number 2, MANUAL.
const char kMemory[] =
    "DEFAULT_MEM_OPT=0 NO_MEM_OPT=1 MANUAL=2 HEURISTICS=3 SWAPPING_HEURISTICS=4 RECOMPUTATION_HEURISTICS=5 "
    "SCHEDULING_HEURISTICS=6";

FieldType One(const char* message, const char* name, Type type, const char* of = "", const char* oneof = "") {
  return {message, name, type, of, false, oneof};
}

FieldType Many(const char* message, const char* name, Type type, const char* of = "") {
  return {message, name, type, of, true, ""};
}

const protobuf::Schema& TheSchema() {
  static const protobuf::Schema* schema = new protobuf::Schema{
      One(kModelServerConfig, "model_config_list", Type::kMessage, kModelConfigList, "config"),
      One(kModelServerConfig, "custom_model_config", Type::kAny, "", "config"),
      Many(kModelConfigList, "config", Type::kMessage, kModelConfig),
      One(kModelConfig, "name", Type::kString),
      One(kModelConfig, "base_path", Type::kString),
      One(kModelConfig, "model_platform", Type::kString),
      One(kModelConfig, "model_type", Type::kEnum, "MODEL_TYPE_UNSPECIFIED=0 TENSORFLOW=1 OTHER=2"),
      One(kModelConfig, "model_version_policy", Type::kMessage, kPolicy),
      Many(kModelConfig, "version_labels", Type::kMessage, kLabel),
      One(kLabel, "key", Type::kString),
      One(kLabel, "value", Type::kInt),
      One(kPolicy, "latest", Type::kMessage, kLatest, "policy_choice"),
      One(kPolicy, "all", Type::kMessage, kAll, "policy_choice"),
      One(kPolicy, "specific", Type::kMessage, kSpecific, "policy_choice"),
      One(kLatest, "num_versions", Type::kInt),
      Many(kSpecific, "versions", Type::kInt),

      One(kMonitoring, "prometheus_config", Type::kMessage, kPrometheus),
      One(kPrometheus, "enable", Type::kBool),
      One(kPrometheus, "path", Type::kString),

      Many(kPlatformMap, "platform_configs", Type::kMessage, kPlatformEntry),
      One(kPlatformEntry, "key", Type::kString),
      One(kPlatformEntry, "value", Type::kMessage, kPlatform),
      One(kPlatform, "source_adapter_config", Type::kAny),
      One(kAdapter, "legacy_config", Type::kMessage, kBundle),
      One(kBundle, "session_target", Type::kString),
      One(kBundle, "session_config", Type::kMessage, kConfig),
      One(kBundle, "batching_parameters", Type::kMessage, kBatching),
      One(kBundle, "session_run_load_threadpool_index", Type::kMessage, kIntValue),
      One(kBundle, "experimental_transient_ram_bytes_during_load", Type::kInt),
      Many(kBundle, "saved_model_tags", Type::kString),
      One(kBundle, "enable_model_warmup", Type::kBool),
      One(kBundle, "model_warmup_options", Type::kMessage, kWarmup),
      One(kBundle, "enable_session_metadata", Type::kBool),
      One(kBundle, "remove_unused_fields_from_bundle_metagraph", Type::kBool),
      One(kBundle, "use_tflite_model", Type::kBool),
      One(kWarmup, "num_request_iterations", Type::kMessage, kIntValue),
      One(kIntValue, "value", Type::kInt),
      One(kStringValue, "value", Type::kString),
      One(kBatching, "max_batch_size", Type::kMessage, kIntValue),
      One(kBatching, "batch_timeout_micros", Type::kMessage, kIntValue),
      One(kBatching, "max_enqueued_batches", Type::kMessage, kIntValue),
      One(kBatching, "num_batch_threads", Type::kMessage, kIntValue),
      One(kBatching, "thread_pool_name", Type::kMessage, kStringValue),
      Many(kBatching, "allowed_batch_sizes", Type::kInt),
      One(kBatching, "pad_variable_length_inputs", Type::kBool),

      Many(kConfig, "device_count", Type::kMessage, kDeviceCount),
      One(kDeviceCount, "key", Type::kString),
      One(kDeviceCount, "value", Type::kInt),
      One(kConfig, "intra_op_parallelism_threads", Type::kInt),
      One(kConfig, "inter_op_parallelism_threads", Type::kInt),
      One(kConfig, "use_per_session_threads", Type::kBool),
      Many(kConfig, "session_inter_op_thread_pool", Type::kMessage, kThreadPool),
      One(kThreadPool, "num_threads", Type::kInt),
      One(kThreadPool, "global_name", Type::kString),
      One(kConfig, "placement_period", Type::kInt),
      Many(kConfig, "device_filters", Type::kString),
      One(kConfig, "gpu_options", Type::kMessage, kGpu),
      One(kGpu, "per_process_gpu_memory_fraction", Type::kFloat),
      One(kGpu, "allow_growth", Type::kBool),
      One(kGpu, "allocator_type", Type::kString),
      One(kGpu, "visible_device_list", Type::kString),
      One(kConfig, "allow_soft_placement", Type::kBool),
      One(kConfig, "log_device_placement", Type::kBool),
      One(kConfig, "graph_options", Type::kMessage, kGraph),
      One(kConfig, "operation_timeout_in_ms", Type::kInt),
      One(kConfig, "isolate_session_state", Type::kBool),
      One(kConfig, "experimental", Type::kMessage, kExperimental),
      One(kExperimental, "executor_type", Type::kString),
      One(kExperimental, "use_numa_affinity", Type::kBool),
      One(kExperimental, "disable_thread_spinning", Type::kBool),
      One(kExperimental, "optimize_for_static_graph", Type::kBool),
      One(kGraph, "enable_recv_scheduling", Type::kBool),
      One(kGraph, "optimizer_options", Type::kMessage, kOptimizer),
      One(kOptimizer, "do_common_subexpression_elimination", Type::kBool),
      One(kOptimizer, "do_constant_folding", Type::kBool),
      One(kOptimizer, "do_function_inlining", Type::kBool),
      One(kOptimizer, "opt_level", Type::kEnum, "L1=0 L0=-1"),
      One(kOptimizer, "global_jit_level", Type::kEnum, "DEFAULT=0 OFF=-1 ON_1=1 ON_2=2"),
      One(kGraph, "build_cost_model", Type::kInt),
      One(kGraph, "build_cost_model_after", Type::kInt),
      One(kGraph, "infer_shapes", Type::kBool),
      One(kGraph, "place_pruned_graph", Type::kBool),
      One(kGraph, "enable_bfloat16_sendrecv", Type::kBool),
      One(kGraph, "timeline_step", Type::kInt),
      One(kGraph, "rewrite_options", Type::kMessage, kRewriter),
      One(kRewriter, "layout_optimizer", Type::kEnum, kToggle),
      One(kRewriter, "constant_folding", Type::kEnum, kToggle),
      One(kRewriter, "shape_optimization", Type::kEnum, kToggle),
      One(kRewriter, "remapping", Type::kEnum, kToggle),
      One(kRewriter, "arithmetic_optimization", Type::kEnum, kToggle),
      One(kRewriter, "dependency_optimization", Type::kEnum, kToggle),
      One(kRewriter, "loop_optimization", Type::kEnum, kToggle),
      One(kRewriter, "function_optimization", Type::kEnum, kToggle),
      One(kRewriter, "debug_stripper", Type::kEnum, kToggle),
      One(kRewriter, "scoped_allocator_optimization", Type::kEnum, kToggle),
      One(kRewriter, "pin_to_host_optimization", Type::kEnum, kToggle),
      One(kRewriter, "implementation_selector", Type::kEnum, kToggle),
      One(kRewriter, "auto_mixed_precision", Type::kEnum, kToggle),
      One(kRewriter, "disable_model_pruning", Type::kBool),
      One(kRewriter, "disable_meta_optimizer", Type::kBool),
      One(kRewriter, "fail_on_optimizer_errors", Type::kBool),
      One(kRewriter, "meta_optimizer_iterations", Type::kEnum, "DEFAULT_NUM_ITERS=0 ONE=1 TWO=2"),
      One(kRewriter, "meta_optimizer_timeout_ms", Type::kInt),
      One(kRewriter, "min_graph_nodes", Type::kInt),
      One(kRewriter, "memory_optimization", Type::kEnum, kMemory),
      One(kRewriter, "memory_optimizer_target_node_name_scope", Type::kString),
      One(kRewriter, "auto_parallel", Type::kMessage, kParallel),
      One(kParallel, "enable", Type::kBool),
      One(kParallel, "num_replicas", Type::kInt),
      Many(kRewriter, "optimizers", Type::kString),
      Many(kRewriter, "custom_optimizers", Type::kMessage, kCustom),
      One(kCustom, "name", Type::kString),
      Many(kCustom, "parameter_map", Type::kMessage, kParameter),
      One(kParameter, "key", Type::kString),
      One(kParameter, "value", Type::kMessage, kAttr),
      One(kAttr, "s", Type::kString, "", "value"),
      One(kAttr, "i", Type::kInt, "", "value"),
      One(kAttr, "f", Type::kFloat, "", "value"),
      One(kAttr, "b", Type::kBool, "", "value"),
      One(kAttr, "placeholder", Type::kString, "", "value"),
      One(kAttr, "list", Type::kMessage, kList, "value"),
      Many(kList, "s", Type::kString),
      Many(kList, "i", Type::kInt),
      Many(kList, "f", Type::kFloat),
      Many(kList, "b", Type::kBool),

      One(kLinearModel, "signature_name", Type::kString),
      One(kLinearModel, "input", Type::kMessage, kTensor),
      One(kLinearModel, "output", Type::kMessage, kTensor),
      One(kLinearModel, "slope", Type::kFloat),
      One(kLinearModel, "intercept", Type::kFloat),
      One(kTensor, "key", Type::kString),
      One(kTensor, "name", Type::kString),
  };
  return *schema;
}

Status ReadFile(const std::string& path, std::string* text) {
  FILE* file = fopen(path.c_str(), "rb");
  if (file == nullptr) return NotFound(path + "; " + strerror(errno));
  char piece[4096];
  size_t count;
  while ((count = fread(piece, 1, sizeof(piece), file)) > 0) text->append(piece, count);
  const bool bad = ferror(file) != 0;
  fclose(file);
  return bad ? Status(Code::kUnknown, path + " can't be read") : Status();
}

}  // namespace

Status ReadTextProto(const std::string& path, const std::string& type, protobuf::Message* message) {
  std::string text;
  const Status read = ReadFile(path, &text);
  if (!read.ok()) return read;
  protobuf::Error error;
  if (ParseText(text, message, &error) && Check(TheSchema(), type, *message, &error)) return Status();
  return InvalidArgument("Invalid protobuf file: '" + path + "': error parsing text-format " + type + ": " + error.ToString());
}

}  // namespace serving
}  // namespace tensorflow
