#ifndef TENSORFLOW_CORE_LIB_MONITORING_COUNTER_H_
#define TENSORFLOW_CORE_LIB_MONITORING_COUNTER_H_

#include <cstdint>
#include <map>
#include <string>

namespace tensorflow {
namespace monitoring {

// Adds to the counter of that name (":sample:npu:predictions_total"), which appears with its first use.
void Increment(const std::string& name, int64_t by);

// Every counter that was used so far, by name.
std::map<std::string, int64_t> Counters();

}  // namespace monitoring
}  // namespace tensorflow

#endif  // TENSORFLOW_CORE_LIB_MONITORING_COUNTER_H_
