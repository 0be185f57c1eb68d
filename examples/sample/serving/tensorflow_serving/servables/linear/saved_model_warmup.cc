#include "tensorflow_serving/servables/linear/saved_model_warmup.h"

#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "tensorflow/core/platform/logging.h"

namespace tensorflow {
namespace serving {
namespace {

const int kMostRecords = 1000;
const size_t kBeforeRecord = 12, kAfterRecord = 4;  // its length and that length's checksum; its own checksum
const int kPredictLog = 6, kRequest = 1, kInputs = 2, kValue = 2, kType = 1, kContent = 4;
const uint64_t kFloat = 1;

bool ReadVarint(const std::string& message, size_t* at, uint64_t* value) {
  *value = 0;
  for (int shift = 0; shift < 64 && *at < message.size(); shift += 7) {
    const unsigned char byte = message[(*at)++];
    *value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return true;
  }
  return false;
}

// The last field of that number in a message in wire format: its number, or its bytes.
bool FindField(const std::string& message, int wanted, uint64_t* number, std::string* bytes) {
  bool found = false;
  for (size_t at = 0; at < message.size();) {
    uint64_t key = 0, value = 0;
    if (!ReadVarint(message, &at, &key) || !ReadVarint(message, &at, &value)) return false;
    const bool is_bytes = (key & 7) == 2;
    if (!is_bytes && (key & 7) != 0) return false;
    if (is_bytes && value > message.size() - at) return false;
    if (static_cast<int>(key >> 3) == wanted) {
      found = true;
      *number = value;
      if (is_bytes) *bytes = message.substr(at, value);
    }
    if (is_bytes) at += value;
  }
  return found;
}

Status Replay(const std::string& record, const LinearServable& servable) {
  uint64_t type = 0;
  std::string message = record, content;
  for (const int field : {kPredictLog, kRequest, kInputs, kValue}) {
    if (!FindField(std::string(message), field, &type, &message)) return InvalidArgument("Unsupported log_type for warmup");
  }
  if (!FindField(message, kType, &type, &content) || type != kFloat) {
    return InvalidArgument("Expects arg[0] to be float");
  }
  content.clear();
  FindField(message, kContent, &type, &content);
  std::vector<float> x(content.size() / sizeof(float));
  memcpy(x.data(), content.data(), x.size() * sizeof(float));
  servable.Predict(x);
  return Status();
}

}  // namespace

Status RunSavedModelWarmup(const std::string& directory, const LinearServable& servable) {
  const std::string path = directory + "/assets.extra/tf_serving_warmup_requests";
  std::ifstream file(path, std::ios::binary);
  if (!file) return Status();
  const auto started = std::chrono::steady_clock::now();
  TF_LOG_INFO("Starting to read warmup data for model at " + path + " with model-warmup-options ");
  const std::string data{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  int records = 0;
  for (size_t at = 0; at < data.size();) {
    uint64_t length = 0;
    if (data.size() - at >= kBeforeRecord) memcpy(&length, data.data() + at, sizeof(length));  // little endian
    if (data.size() - at < kBeforeRecord + kAfterRecord || length > data.size() - at - kBeforeRecord - kAfterRecord) {
      return InvalidArgument("truncated record at " + std::to_string(at) +
                             ". Please verify your warmup data is in TFRecord format.");
    }
    if (++records > kMostRecords) {
      return InvalidArgument("Number of warmup records exceeeds the maximum (1000) at " + path);
    }
    const Status status = Replay(data.substr(at + kBeforeRecord, length), servable);
    if (!status.ok()) return status;
    at += kBeforeRecord + length + kAfterRecord;
  }
  const auto took = std::chrono::steady_clock::now() - started;
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(took).count();
  TF_LOG_INFO("Finished reading warmup data for model at " + path + ". Number of warmup records read: " +
              std::to_string(records) + ". Elapsed time (microseconds): " + std::to_string(micros) + ".");
  return Status();
}

}  // namespace serving
}  // namespace tensorflow
