#include "llvm/IR/expression.h"

namespace llvm {

Expression& Expression::Input() { return Append(Op::kInput, 0); }
Expression& Expression::Constant(float value) { return Append(Op::kConstant, value); }
Expression& Expression::Add() { return Append(Op::kAdd, 0); }
Expression& Expression::Multiply() { return Append(Op::kMultiply, 0); }

Expression& Expression::Append(Op op, float constant) {
  program_.push_back({op, constant});
  return *this;
}

void Expression::Run(const float* input, float* output, size_t count) const {
  std::vector<float> stack;
  for (size_t i = 0; i < count; ++i) {
    stack.clear();
    for (const Instruction& instruction : program_) {
      if (instruction.op == Op::kInput || instruction.op == Op::kConstant) {
        stack.push_back(instruction.op == Op::kInput ? input[i] : instruction.constant);
        continue;
      }
      const float right = stack.back();
      stack.pop_back();
      float& left = stack.back();
      left = instruction.op == Op::kAdd ? left + right : left * right;
    }
    output[i] = stack.back();
  }
}

}  // namespace llvm
