#ifndef OPTION_NAMES_H_
#define OPTION_NAMES_H_

#include <map>
#include <string>

// The options of NpuOptimizer that all releases read. As in the real one their names stand in the library's file, and
// an option of another name is passed over in silence.
inline std::map<std::string, std::string> OnlyKnown(const std::map<std::string, std::string>& parameters) {
  static const char* const kNames[] = {
    "HCCL_algorithm", "aoe_config_file", "aoe_mode", "atomic_clean_policy", "auto_tune_mode", "buffer_optimize",
    "compress_weight_conf", "const_input", "customize_dtypes", "debug_dir", "deterministic", "device_type",
    "distribute_config", "dump_data", "dump_debug_mode", "dump_layer", "dump_mode", "dump_path", "dump_step",
    "dynamic_dims", "dynamic_graph_execute_mode", "dynamic_input", "dynamic_inputs_shape_range", "dynamic_node_type",
    "enable_compress_weight", "enable_data_pre_proc", "enable_dump", "enable_dump_debug", "enable_exception_dump",
    "enable_graph_parallel", "enable_scope_fusion_passes", "enable_small_channel", "es_cluster_config",
    "event_sync_timeout", "experimental_logical_device_cluster_deploy_mode", "experimental_logical_device_id",
    "experimental_model_deploy_devicelist", "experimental_model_deploy_mode", "external_weight", "frozen_variable",
    "fusion_switch_file", "graph_compiler_cache_dir", "graph_exec_timeout", "graph_memory_max_size",
    "graph_parallel_option_path", "graph_run_mode", "graph_slice", "hccl_timeout", "hcom_multi_mode", "hcom_parallel",
    "in_out_pair", "in_out_pair_flag", "input_shape", "insert_op_file", "is_tailing_optimization",
    "iterations_per_loop", "jit_compile", "job", "local_device_list", "local_rank_id", "lower_functional_ops",
    "memory_optimization_policy", "mix_compile_mode", "modify_mixlist", "op_compiler_cache_dir",
    "op_compiler_cache_mode", "op_debug_config", "op_debug_level", "op_execute_timeout", "op_precision_mode",
    "op_select_implmode", "op_wait_timeout", "optypelist_for_implmode", "precision_mode", "precision_mode_v2",
    "profiling_mode", "profiling_options", "resource_config_path", "session_device_id", "soc_config",
    "static_memory_policy", "stream_max_parallel_num", "stream_sync_timeout", "task_index", "topo_sorting_mode",
    "use_off_line", "variable_format_optimize", "variable_memory_max_size", "variable_placement", "work_path",
  };
  std::map<std::string, std::string> known;
  for (const char* name : kNames) {
    const auto found = parameters.find(name);
    if (found != parameters.end()) known.insert(*found);
  }
  return known;
}

#endif  // OPTION_NAMES_H_
