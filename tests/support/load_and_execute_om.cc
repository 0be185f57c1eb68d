// TF Adapter's operator LoadAndExecuteOm for tests, without an NPU: it computes the graph that the stand-in for ATC
// (om_compiler_stand_in.py) puts into an om in place of weights and kernels. The interface is that of the adapter since 6.3.

#include <cstring>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "tensorflow/core/framework/graph.pb.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/public/session.h"

namespace tensorflow {

REGISTER_OP("LoadAndExecuteOm")
    .Input("inputs: Tin")
    .Input("model_data: string")
    .Attr("Tin: list(type) >= 0")
    .Output("outputs: output_dtypes")
    .Attr("output_dtypes: list(type) >= 0")
    .Attr("executor_type: string = ''")
    .SetIsStateful()
    .SetShapeFn(shape_inference::UnknownShape);

namespace {

uint32 NumberAt(const string& om, size_t offset) {
  uint32 number = 0;
  std::memcpy(&number, om.data() + offset, sizeof(number));
  return number;
}

string Partition(const string& om, uint32 wanted) {
  const uint32 count = NumberAt(om, 256);
  size_t place = 260 + 12 * static_cast<size_t>(count);
  for (uint32 i = 0; i < count; ++i) {
    const uint32 size = NumberAt(om, 260 + 12 * i + 8);
    if (NumberAt(om, 260 + 12 * i) == wanted) return om.substr(place, size);
    place += size;
  }
  return "";
}

class LoadAndExecuteOmOp : public OpKernel {
 public:
  explicit LoadAndExecuteOmOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const int last = context->num_inputs() - 1;
    mutex_lock lock(mutex_);
    if (session_ == nullptr) {
      OP_REQUIRES_OK(context, Load(context->input(last).scalar<tstring>()()));
    }
    OP_REQUIRES(context, inputs_.size() == static_cast<size_t>(last), errors::Internal("input num is invalid"));
    std::vector<std::pair<string, Tensor>> feeds;
    for (int i = 0; i < last; ++i) feeds.emplace_back(inputs_[i], context->input(i));
    std::vector<Tensor> results;
    OP_REQUIRES_OK(context, session_->Run(feeds, outputs_, {}, &results));
    for (size_t i = 0; i < results.size(); ++i) context->set_output(i, results[i]);
  }

 private:
  Status Load(const string& om) {
    if (om.compare(0, 4, "IMOD") != 0) return errors::Internal("aclmdlLoadFromMem failed");
    GraphDef graph;
    if (!graph.ParseFromString(Partition(om, 1))) return errors::Internal("the graph can't be read");
    std::istringstream names(Partition(om, 2));
    string side, name;
    while (names >> side >> name) (side == "in" ? inputs_ : outputs_).push_back(name);
    std::unique_ptr<Session> session(NewSession(SessionOptions()));
    TF_RETURN_IF_ERROR(session->Create(graph));
    session_ = std::move(session);
    return Status::OK();
  }

  mutex mutex_;
  std::unique_ptr<Session> session_;
  std::vector<string> inputs_, outputs_;
};

REGISTER_KERNEL_BUILDER(Name("LoadAndExecuteOm").Device(DEVICE_CPU), LoadAndExecuteOmOp);

}  // namespace
}  // namespace tensorflow
