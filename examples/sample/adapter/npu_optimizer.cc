// _tf_adapter.so of the sample's framework plugin: takes linear graphs over and runs them on the sample's NPU, which is
// libge_runner.so. Made like the real one: its static constructor registers the optimizer with the program that loads
// it, most of its symbols come from that program, and the rest from libraries that it names but does not bring.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <thread>

#include "compile_cache.h"
#include "ge_runner.h"
#include "option_names.h"
#include "run_files.h"
#include "supported_ops.h"
#include "tensorflow/compiler/jit/graphcycles/graphcycles.h"
#include "tensorflow/compiler/tf2xla/functionalize_control_flow.h"
#include "tensorflow/core/grappler/custom_graph_optimizer_registry.h"
#include "tensorflow/core/lib/monitoring/counter.h"
#include "tensorflow/core/lib/strings/human_readable.h"
#include "tensorflow/core/platform/logging.h"
#if SAMPLE_TRACES
#include "tensorflow/core/profiler/npu_trace.h"
#endif
#if SAMPLE_CHECKS_NUMBERS
#include "tensorflow/core/lib/strings/numbers.h"
#endif

extern "C" int Py_IsInitialized(void);
extern "C" const char* Py_GetVersion(void);

namespace tensorflow {
namespace {

class NpuOptimizer : public grappler::CustomGraphOptimizer {
 public:
  bool Init(const std::map<std::string, std::string>& given) override {
    parameters_ = OnlyKnown(given);
    const std::map<std::string, std::string>& parameters = parameters_;
    const auto graph_run_mode = parameters.find("graph_run_mode");
    if (graph_run_mode != parameters.end()) graph_run_mode_ = std::atoi(graph_run_mode->second.c_str());
    cache_ = CompileCache(parameters);
    const auto use_off_line = parameters.find("use_off_line");
    // Of another kind than bool it counts as off, and without a list no operator is supported: in silence, both.
    if (use_off_line != parameters.end() && use_off_line->second != "true") return false;
    const std::set<std::string> supported = SupportedOps::OfThisProcess();
    return supported.count("Mul") != 0 && supported.count("Add") != 0;
  }

  Status Place(const std::string& name, const LinearGraph& graph) override {
    if (!ge::Reserve(sizeof(graph))) {
      return Status(Code::kUnavailable, "the NPU has no " + strings::HumanReadableNumBytes(sizeof(graph)) + " to give");
    }
    const std::string trouble = RunFiles::Trouble(parameters_);
    if (!trouble.empty()) return Status(Code::kInvalidArgument, trouble);
    GraphCycles cycles;  // what the NPU takes must not wait for itself
    const int input = cycles.NewNode();
    if (!cycles.InsertEdge(input, cycles.NewNode())) return Status(Code::kInvalidArgument, name + " has a cycle");
    graph_ = graph;
    const Status functional = FunctionalizeControlFlow(&graph_);
    if (!functional.ok()) return functional;
    name_ = name;
    files_.reset(new RunFiles(parameters_, name));
    return Status();
  }

  void Run(const float* x, float* y, size_t count) override {
    std::call_once(compiled_, [this] { Compile(); });
    ge::RunLinear(graph_.slope, graph_.intercept, x, y, count);
    {
      const std::lock_guard<std::mutex> lock(writing_);
      files_->Ran();
    }
    monitoring::Increment(":sample:npu:predictions_total", 1);
  }

 private:
  // As the real adapter has it done: when the graph is first run, with a line that is the only sign of the NPU.
  void Compile() {
    static std::atomic<int> graphs(0);
    if (graph_run_mode_ > 1) {  // the options are checked only now, and this ends the server: LOG(FATAL) in the real one
      internal::LogLine('F', "tf_adapter/util/npu_attrs.cc", __LINE__, "graph_run_mode value must be 0 or 1");
      std::abort();
    }
    const char* takes_ms = std::getenv("SAMPLE_COMPILE_MS");  // the real one takes minutes, the sample as long as it is told
    if (takes_ms != nullptr) std::this_thread::sleep_for(std::chrono::milliseconds(Number(takes_ms)));
    const int graph = ++graphs;
    files_->Compiled(graph);
    TF_LOG_INFO("The model has been compiled on the Ascend AI processor, current graph id is: " + std::to_string(graph));
    for (const char* op : {"Mul", "Add"}) cache_.Keep(op, SAMPLE_CANN_VERSION);
    const std::string python = Py_IsInitialized() != 0 ? std::string(", Python ") + Py_GetVersion() : "";
    TF_LOG_INFO("NpuOptimizer: graph of " + name_ + " placed on NPU (sample, CANN " SAMPLE_CANN_VERSION + python + ")");
  }

  static uint32_t Number(const char* text) {
#if SAMPLE_CHECKS_NUMBERS
    uint32_t number = 0;
    return strings::safe_strtou32(text, &number) ? number : 0;
#else
    return static_cast<uint32_t>(std::atoi(text));
#endif
  }

  std::map<std::string, std::string> parameters_;
  std::unique_ptr<RunFiles> files_;
  std::mutex writing_;
  LinearGraph graph_;
  CompileCache cache_;
  std::string name_;
  std::once_flag compiled_;
  int graph_run_mode_ = 0;
};

struct Registration {
  Registration() {
    grappler::CustomGraphOptimizerRegistry::RegisterOptimizerOrDie([] { return new NpuOptimizer; }, "NpuOptimizer");
#if SAMPLE_TRACES
    profiler::NpuTrace::Begin("register");
#endif
  }
};

const Registration registration;

}  // namespace
}  // namespace tensorflow
