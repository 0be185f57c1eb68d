#include "google/protobuf/schema.h"

#include <cerrno>
#include <cstdlib>
#include <set>

namespace protobuf {
namespace {

bool Fail(const Field& field, const std::string& what, Error* error) {
  error->at = field.at;
  error->what = what;
  return false;
}

bool IsInteger(const std::string& text) {
  char* end = nullptr;
  errno = 0;
  strtoll(text.c_str(), &end, 0);
  return !text.empty() && *end == '\0' && errno == 0;
}

bool IsNumber(const std::string& text) {
  std::string number = text;
  if (!number.empty() && (number.back() == 'f' || number.back() == 'F') && number.find_first_of("xnX") == std::string::npos) {
    number.pop_back();
  }
  char* end = nullptr;
  strtod(number.c_str(), &end);
  return !number.empty() && *end == '\0';
}

bool IsBool(const std::string& text) {
  static const std::set<std::string> words = {"true", "false", "True", "False", "t", "f", "1", "0"};
  return words.count(text) != 0;
}

bool IsEnum(const std::string& names, const Field& field) {
  const std::string wanted = field.kind == Field::Kind::kNumber ? "=" + field.text + " " : " " + field.text + "=";
  return (" " + names + " ").find(wanted) != std::string::npos;
}

bool HasItsKind(const FieldType& type, const Field& field) {
  const bool scalar = field.kind == Field::Kind::kIdentifier || field.kind == Field::Kind::kNumber;
  switch (type.type) {
    case Type::kBool: return scalar && IsBool(field.text);
    case Type::kInt: return scalar && IsInteger(field.text);
    case Type::kFloat: return scalar && IsNumber(field.text);
    case Type::kString: return field.kind == Field::Kind::kString;
    case Type::kEnum: return scalar && IsEnum(type.of, field);
    case Type::kMessage:
    case Type::kAny: return field.kind == Field::Kind::kMessage;
  }
  return false;
}

const char* NameOf(Type type) {
  switch (type) {
    case Type::kBool: return "bool";
    case Type::kInt: return "integer";
    case Type::kFloat: return "number";
    case Type::kString: return "string";
    case Type::kEnum: return "enum";
    case Type::kMessage:
    case Type::kAny: break;
  }
  return "message";
}

const FieldType* Lookup(const Schema& schema, const std::string& message, const std::string& field) {
  for (const FieldType& type : schema) {
    if (message == type.message && field == type.name) return &type;
  }
  return nullptr;
}

bool Knows(const Schema& schema, const std::string& message) {
  for (const FieldType& type : schema) {
    if (message == type.message) return true;
  }
  return false;
}

// An Any in its readable form holds one field, [type.googleapis.com/some.Type] { ... }.
bool CheckAny(const Schema& schema, const Message& any, Error* error) {
  for (const Field& field : any.fields) {
    if (!field.bracketed) continue;
    const std::string type = field.name.substr(field.name.rfind('/') + 1);
    if (!Knows(schema, type)) {
      return Fail(field, "Could not find type \"" + field.name + "\" stored in google.protobuf.Any.", error);
    }
    if (field.message == nullptr) return Fail(field, "Expected \"{\".", error);
    if (!Check(schema, type, *field.message, error)) return false;
  }
  return true;
}

}  // namespace

bool Check(const Schema& schema, const std::string& type, const Message& message, Error* error) {
  std::set<std::string> seen;
  for (const Field& field : message.fields) {
    const FieldType* known = field.bracketed ? nullptr : Lookup(schema, type, field.name);
    if (known == nullptr) {
      return Fail(field, "Message type \"" + type + "\" has no field named \"" + field.name + "\".", error);
    }
    if (!known->repeated && !seen.insert(field.name).second) {
      return Fail(field, "Non-repeated field \"" + field.name + "\" is specified multiple times.", error);
    }
    const std::string oneof = known->oneof;
    if (!oneof.empty() && !seen.insert("oneof " + oneof).second) {
      return Fail(field, "Field \"" + field.name + "\" excludes another one of oneof \"" + oneof + "\".", error);
    }
    if (!HasItsKind(*known, field)) {
      const std::string found = field.message ? "a message" : "\"" + field.text + "\"";
      if (known->type == Type::kEnum) {
        return Fail(field, "Unknown enumeration value of " + found + " for field \"" + field.name + "\".", error);
      }
      return Fail(field, "Expected " + std::string(NameOf(known->type)) + " for field \"" + field.name + "\", found " + found + ".",
                  error);
    }
    if (known->type == Type::kMessage && !Check(schema, known->of, *field.message, error)) return false;
    if (known->type == Type::kAny && !CheckAny(schema, *field.message, error)) return false;
  }
  return true;
}

}  // namespace protobuf
