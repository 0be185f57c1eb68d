#ifndef LLVM_IR_EXPRESSION_H_
#define LLVM_IR_EXPRESSION_H_

// Arithmetic on floats as a list of instructions for a stack machine.

#include <cstddef>
#include <vector>

namespace llvm {

class Expression {
 public:
  Expression& Input();
  Expression& Constant(float value);
  Expression& Add();
  Expression& Multiply();

  // Runs the instructions once for each of `count` inputs.
  void Run(const float* input, float* output, size_t count) const;

 private:
  enum class Op { kInput, kConstant, kAdd, kMultiply };
  struct Instruction {
    Op op;
    float constant;
  };

  Expression& Append(Op op, float constant);

  std::vector<Instruction> program_;
};

}  // namespace llvm

#endif  // LLVM_IR_EXPRESSION_H_
