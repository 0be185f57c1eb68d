#include "tensorflow/compiler/jit/graphcycles/graphcycles.h"

namespace tensorflow {

GraphCycles::GraphCycles() {}

int GraphCycles::NewNode() {
  after_.emplace_back();
  return static_cast<int>(after_.size()) - 1;
}

bool GraphCycles::InsertEdge(int from, int to) {
  std::vector<int> waiting = {to};
  std::set<int> seen;
  while (!waiting.empty()) {
    const int node = waiting.back();
    waiting.pop_back();
    if (node == from) return false;
    if (seen.insert(node).second) waiting.insert(waiting.end(), after_[node].begin(), after_[node].end());
  }
  after_[from].insert(to);
  return true;
}

}  // namespace tensorflow
