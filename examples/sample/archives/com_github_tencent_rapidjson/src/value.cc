#include "rapidjson/value.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace json {
namespace {

const int kDeepest = 200;

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  bool Document(Value* value, std::string* error) {
    SkipBlanks();
    bool good = !AtEnd() || Fail("The document is empty.");
    good = good && One(value, 0);
    SkipBlanks();
    if (good && !AtEnd()) good = Fail("The document root must not be followed by other values.");
    if (!good) *error = problem_ + " at offset: " + std::to_string(offset_);
    return good;
  }

 private:
  bool One(Value* value, int depth) {
    if (depth > kDeepest) return Fail("Values are nested too deeply.");
    switch (Peek()) {
      case '{': return Object(value, depth);
      case '[': return Array(value, depth);
      case '"':
        value->type = Value::Type::kString;
        return String(&value->text);
      default: return Word(value);
    }
  }

  bool Array(Value* value, int depth) {
    value->type = Value::Type::kArray;
    ++offset_;
    SkipBlanks();
    if (Consume("]")) return true;
    for (;;) {
      SkipBlanks();
      value->items.emplace_back();
      if (!One(&value->items.back(), depth + 1)) return false;
      SkipBlanks();
      if (Consume("]")) return true;
      if (!Consume(",")) return Fail("Missing a comma or ] after an array element.");
    }
  }

  bool Object(Value* value, int depth) {
    value->type = Value::Type::kObject;
    ++offset_;
    SkipBlanks();
    if (Consume("}")) return true;
    for (;;) {
      SkipBlanks();
      if (Peek() != '"') return Fail("Missing a name for object member.");
      value->keys.emplace_back();
      if (!String(&value->keys.back())) return false;
      SkipBlanks();
      if (!Consume(":")) return Fail("Missing a colon after a name of object member.");
      SkipBlanks();
      value->items.emplace_back();
      if (!One(&value->items.back(), depth + 1)) return false;
      SkipBlanks();
      if (Consume("}")) return true;
      if (!Consume(",")) return Fail("Missing a comma or } after an object member.");
    }
  }

  bool Word(Value* value) {
    if (Consume("null")) return true;
    value->type = Value::Type::kBool;
    value->boolean = Peek() == 't';
    if (Consume("true") || Consume("false")) return true;
    value->type = Value::Type::kNumber;
    const size_t start = offset_;
    const bool negative = Consume("-");
    if (Consume("NaN")) {
      value->number = NAN;
    } else if (Consume("Infinity") || Consume("Inf")) {
      value->number = negative ? -INFINITY : INFINITY;
    } else if (!Digits()) {
      return Fail("Invalid value.");
    } else {
      value->number = strtod(text_.c_str() + start, nullptr);
    }
    value->text = text_.substr(start, offset_ - start);
    return true;
  }

  bool Digits() {
    const size_t start = offset_;
    while (IsDigit(Peek())) ++offset_;
    if (offset_ == start || (text_[start] == '0' && offset_ > start + 1)) return false;
    if (Consume(".")) {
      const size_t fraction = offset_;
      while (IsDigit(Peek())) ++offset_;
      if (offset_ == fraction) return false;
    }
    if (Consume("e") || Consume("E")) {
      if (!Consume("+")) Consume("-");
      const size_t exponent = offset_;
      while (IsDigit(Peek())) ++offset_;
      if (offset_ == exponent) return false;
    }
    return true;
  }

  bool String(std::string* value) {
    ++offset_;
    for (;;) {
      if (AtEnd()) return Fail("Missing a closing quotation mark in string.");
      const char c = text_[offset_];
      if (static_cast<unsigned char>(c) < 0x20) return Fail("Invalid encoding in string.");
      ++offset_;
      if (c == '"') return true;
      if (c != '\\') {
        value->push_back(c);
      } else if (!Escape(value)) {
        return Fail("Invalid escape character in string.");
      }
    }
  }

  bool Escape(std::string* value) {
    const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char c = Peek();
    ++offset_;
    const char* known = c == '\0' ? nullptr : strchr(letters, c);
    if (known != nullptr) {
      value->push_back(meanings[known - letters]);
      return true;
    }
    unsigned code = 0, low = 0;
    if (c != 'u' || !FourHex(&code)) return false;
    if (code >= 0xDC00 && code < 0xE000) return false;
    if (code >= 0xD800 && code < 0xDC00) {
      if (!Consume("\\u") || !FourHex(&low) || low < 0xDC00 || low >= 0xE000) return false;
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    AppendUtf8(code, value);
    return true;
  }

  bool FourHex(unsigned* code) {
    *code = 0;
    for (int i = 0; i < 4; ++i, ++offset_) {
      const char c = Peek(), lower = static_cast<char>(c | 0x20);
      if (!IsDigit(c) && !(lower >= 'a' && lower <= 'f')) return false;
      *code = *code * 16 + static_cast<unsigned>(IsDigit(c) ? c - '0' : lower - 'a' + 10);
    }
    return true;
  }

  static void AppendUtf8(unsigned code, std::string* value) {
    const auto add = [value](unsigned byte) { value->push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
      add(code);
      return;
    }
    if (code < 0x800) {
      add(0xC0 | (code >> 6));
    } else {
      if (code < 0x10000) {
        add(0xE0 | (code >> 12));
      } else {
        add(0xF0 | (code >> 18));
        add(0x80 | ((code >> 12) & 0x3F));
      }
      add(0x80 | ((code >> 6) & 0x3F));
    }
    add(0x80 | (code & 0x3F));
  }

  bool Consume(const char* word) {
    const size_t size = strlen(word);
    if (text_.compare(offset_, size, word) != 0) return false;
    offset_ += size;
    return true;
  }

  void SkipBlanks() {
    while (Peek() == ' ' || Peek() == '\t' || Peek() == '\n' || Peek() == '\r') ++offset_;
  }

  static bool IsDigit(char c) { return c >= '0' && c <= '9'; }
  bool AtEnd() const { return offset_ >= text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[offset_]; }

  bool Fail(const char* problem) {
    problem_ = problem;
    return false;
  }

  const std::string& text_;
  size_t offset_ = 0;
  std::string problem_;
};

}  // namespace

const Value* Value::Find(const std::string& key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i] == key) return &items[i];
  }
  return nullptr;
}

bool Parse(const std::string& text, Value* value, std::string* error) { return Parser(text).Document(value, error); }

const char* TypeName(Value::Type type) {
  switch (type) {
    case Value::Type::kNull: return "Null";
    case Value::Type::kBool: return "Bool";
    case Value::Type::kNumber: return "Number";
    case Value::Type::kString: return "String";
    case Value::Type::kArray: return "Array";
    case Value::Type::kObject: break;
  }
  return "Object";
}

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      snprintf(code, sizeof(code), "\\u%04x", static_cast<unsigned>(c));
      quoted += code;
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

std::string FormatFloat(float value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  char text[32];
  for (int digits = 6; digits <= 9; ++digits) {
    snprintf(text, sizeof(text), "%.*g", digits, static_cast<double>(value));
    if (strtof(text, nullptr) == value) break;
  }
  return strpbrk(text, ".e") == nullptr ? std::string(text) + ".0" : text;
}

std::string Write(const Value& value) {
  std::string text;
  switch (value.type) {
    case Value::Type::kNull: return "null";
    case Value::Type::kBool: return value.boolean ? "true" : "false";
    case Value::Type::kNumber: return value.text;
    case Value::Type::kString: return Quote(value.text);
    case Value::Type::kArray:
      for (const Value& item : value.items) text += (text.empty() ? "" : ",") + Write(item);
      return "[" + text + "]";
    case Value::Type::kObject: break;
  }
  for (size_t i = 0; i < value.items.size(); ++i) {
    text += (text.empty() ? "" : ",") + Quote(value.keys[i]) + ":" + Write(value.items[i]);
  }
  return "{" + text + "}";
}

}  // namespace json
