#ifndef RAPIDJSON_VALUE_H_
#define RAPIDJSON_VALUE_H_

// A small JSON reader and writer. NaN, Inf and Infinity are numbers here, as in TensorFlow Serving's REST API.

#include <string>
#include <vector>

namespace json {

struct Value {
  enum class Type { kNull, kBool, kNumber, kString, kArray, kObject };

  Type type = Type::kNull;
  bool boolean = false;
  double number = 0;
  std::string text;               // a string, or a number as it was written
  std::vector<std::string> keys;  // of an object; its values are in `items`, in the same order
  std::vector<Value> items;

  const Value* Find(const std::string& key) const;
};

// False with "Invalid value. at offset: 7" in `error` for anything that is not one JSON value.
bool Parse(const std::string& text, Value* value, std::string* error);

const char* TypeName(Value::Type type);
std::string Quote(const std::string& text);
std::string FormatFloat(float value);  // as few digits as give the same float again: "2.5", "3.0", "1e+20"
std::string Write(const Value& value);

}  // namespace json

#endif  // RAPIDJSON_VALUE_H_
