#ifndef TENSORFLOW_SERVING_CONFIG_SCHEMAS_H_
#define TENSORFLOW_SERVING_CONFIG_SCHEMAS_H_

#include <string>

#include "google/protobuf/text_tree.h"
#include "tensorflow/core/lib/core/status.h"

namespace tensorflow {
namespace serving {

// Reads a file and its text, and checks it against the message type of that name ("tensorflow.serving.ModelServerConfig").
// An error names the file, the line and the column.
Status ReadTextProto(const std::string& path, const std::string& type, protobuf::Message* message);

}  // namespace serving
}  // namespace tensorflow

#endif  // TENSORFLOW_SERVING_CONFIG_SCHEMAS_H_
