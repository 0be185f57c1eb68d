#ifndef GOOGLE_PROTOBUF_SCHEMA_H_
#define GOOGLE_PROTOBUF_SCHEMA_H_

// Message types as tables, and the check of a parsed text against them.

#include <string>
#include <vector>

#include "google/protobuf/text_tree.h"

namespace protobuf {

enum class Type { kBool, kInt, kFloat, kString, kEnum, kMessage, kAny };

struct FieldType {
  const char* message;  // the message that has the field
  const char* name;
  Type type;
  const char* of;        // the field's own message type, or an enum's names in one string: "DEFAULT=0 ON=1"
  bool repeated;         // maps are repeated too: a list of entries with key and value
  const char* oneof;     // fields of one message with the same name here exclude each other; "" for none
};

using Schema = std::vector<FieldType>;

// True if every field of `message` is known to `type` and has a value of its kind.
bool Check(const Schema& schema, const std::string& type, const Message& message, Error* error);

}  // namespace protobuf

#endif  // GOOGLE_PROTOBUF_SCHEMA_H_
