#ifndef TENSORFLOW_COMPILER_JIT_GRAPHCYCLES_GRAPHCYCLES_H_
#define TENSORFLOW_COMPILER_JIT_GRAPHCYCLES_GRAPHCYCLES_H_

#include <set>
#include <vector>

namespace tensorflow {

// A directed graph that stays without cycles.
class GraphCycles {
 public:
  GraphCycles();

  // The number of a new node.
  int NewNode();

  // Adds an edge; false, and nothing is added, where it would close a cycle.
  bool InsertEdge(int from, int to);

 private:
  std::vector<std::set<int>> after_;
};

}  // namespace tensorflow

#endif  // TENSORFLOW_COMPILER_JIT_GRAPHCYCLES_GRAPHCYCLES_H_
