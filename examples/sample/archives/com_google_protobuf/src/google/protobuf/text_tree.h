#ifndef GOOGLE_PROTOBUF_TEXT_TREE_H_
#define GOOGLE_PROTOBUF_TEXT_TREE_H_

// Protobuf's text format as a tree of names and values, without any message type. schema.h gives it types.

#include <memory>
#include <string>
#include <vector>

namespace protobuf {

struct Position {
  int line = 1;
  int column = 1;
};

struct Error {
  Position at;
  std::string what;

  std::string ToString() const;  // "3:14: what"
};

struct Message;

struct Field {
  enum class Kind { kIdentifier, kNumber, kString, kMessage };

  std::string name;        // of an extension or an Any, what stands between [ and ]
  bool bracketed = false;  // the name stood in [ ]
  Position at;
  Kind kind = Kind::kIdentifier;
  std::string text;  // a string is without its quotes and escapes
  std::unique_ptr<Message> message;
};

struct Message {
  std::vector<Field> fields;

  // The last field of that name, as protobuf lets the last one count; null if there is none.
  const Field* Find(const std::string& name) const;
  const Message* FindMessage(const std::string& name) const;
  std::string Text(const std::string& name, const std::string& otherwise) const;
  std::vector<const Field*> All(const std::string& name) const;
};

bool ParseText(const std::string& text, Message* message, Error* error);

}  // namespace protobuf

#endif  // GOOGLE_PROTOBUF_TEXT_TREE_H_
