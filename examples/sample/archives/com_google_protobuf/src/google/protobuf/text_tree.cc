#include "google/protobuf/text_tree.h"

#include <utility>

namespace protobuf {
namespace {

const int kDeepest = 100;

bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsWord(char c) { return IsLetter(c) || IsDigit(c); }
bool IsOctal(char c) { return c >= '0' && c <= '7'; }

int HexValue(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

class Parser {
 public:
  Parser(const std::string& text, Error* error) : text_(text), error_(error) {}

  bool Fields(Message* message, char closing, int depth) {
    if (depth > kDeepest) return Fail("Messages are nested too deeply.");
    for (;;) {
      SkipBlanks();
      if (closing == '\0' ? AtEnd() : Peek() == closing) return closing == '\0' || Take();
      if (AtEnd()) return Fail(std::string("Expected \"") + closing + "\", found the end of the text.");
      if (!OneField(message, depth)) return false;
      SkipBlanks();
      if (Peek() == ',' || Peek() == ';') Take();
    }
  }

 private:
  bool OneField(Message* message, int depth) {
    Field field;
    field.at = at_;
    if (!Name(&field)) return false;
    SkipBlanks();
    const bool colon = Peek() == ':' && Take();
    SkipBlanks();
    if (Peek() == '[' && colon) return List(message, field, depth);
    if (Peek() != '{' && Peek() != '<' && !colon) return Fail("Expected \":\", found " + Found() + ".");
    if (!Value(&field, depth)) return false;
    message->fields.push_back(std::move(field));
    return true;
  }

  bool List(Message* message, const Field& like, int depth) {
    Take();
    SkipBlanks();
    if (Peek() == ']') return Take();
    for (;;) {
      SkipBlanks();
      Field field;
      field.name = like.name;
      field.bracketed = like.bracketed;
      field.at = at_;
      if (!Value(&field, depth)) return false;
      message->fields.push_back(std::move(field));
      SkipBlanks();
      if (Peek() == ']') return Take();
      if (Peek() != ',') return Fail("Expected \"]\" or \",\", found " + Found() + ".");
      Take();
    }
  }

  bool Name(Field* field) {
    if (Peek() != '[') {
      if (!IsLetter(Peek())) return Fail("Expected identifier, found " + Found() + ".");
      field->name = Word();
      return true;
    }
    Take();
    field->bracketed = true;
    for (SkipBlanks(); Peek() != ']'; SkipBlanks()) {
      if (!IsWord(Peek()) && Peek() != '.' && Peek() != '/') return Fail("Expected \"]\", found " + Found() + ".");
      field->name += Peek();
      Take();
    }
    return Take();
  }

  bool Value(Field* field, int depth) {
    if (Peek() == '{' || Peek() == '<') {
      const char closing = Peek() == '{' ? '}' : '>';
      Take();
      field->kind = Field::Kind::kMessage;
      field->message.reset(new Message);
      return Fields(field->message.get(), closing, depth + 1);
    }
    if (Peek() == '"' || Peek() == '\'') return Strings(field);
    if (Peek() == '-') {
      field->kind = Field::Kind::kNumber;
      Take();
      SkipBlanks();
      field->text = "-";
    }
    if (IsDigit(Peek()) || Peek() == '.') return Number(field);
    if (!IsLetter(Peek())) return Fail("Expected a value, found " + Found() + ".");
    field->text += Word();
    return true;
  }

  bool Number(Field* field) {
    field->kind = Field::Kind::kNumber;
    const size_t start = offset_;
    while (IsWord(Peek()) || Peek() == '.' || ((Peek() == '+' || Peek() == '-') && (text_[offset_ - 1] | 0x20) == 'e')) {
      Take();
    }
    field->text += text_.substr(start, offset_ - start);
    return true;
  }

  // Strings that follow each other are one.
  bool Strings(Field* field) {
    field->kind = Field::Kind::kString;
    while (Peek() == '"' || Peek() == '\'') {
      if (!OneString(&field->text)) return false;
      SkipBlanks();
    }
    return true;
  }

  bool OneString(std::string* value) {
    const char quote = Peek();
    Take();
    while (!AtEnd() && Peek() != quote) {
      if (Peek() == '\n') break;
      const char c = Peek();
      if (c == '\\' ? !Escape(value) : (value->push_back(c), !Take())) return false;
    }
    if (AtEnd() || Peek() == '\n') return Fail("String literals cannot cross line boundaries.");
    return Take();
  }

  bool Escape(std::string* value) {
    Take();
    const char c = Peek();
    const std::string letters = "abfnrtv\\'\"?", meanings = "\a\b\f\n\r\t\v\\'\"?";
    const size_t known = c == '\0' ? std::string::npos : letters.find(c);
    if (known != std::string::npos) {
      value->push_back(meanings[known]);
      return Take();
    }
    int code = 0;
    if (IsOctal(c)) {
      for (int i = 0; i < 3 && IsOctal(Peek()); ++i, Take()) code = code * 8 + (Peek() - '0');
    } else if (c == 'x' || c == 'X') {
      Take();
      if (HexValue(Peek()) < 0) return Fail("Expected hex digits for escape sequence.");
      for (int i = 0; i < 2 && HexValue(Peek()) >= 0; ++i, Take()) code = code * 16 + HexValue(Peek());
    } else {
      return Fail("Invalid escape sequence in string literal.");
    }
    value->push_back(static_cast<char>(code));
    return true;
  }

  void SkipBlanks() {
    for (;;) {
      const char c = Peek();
      if (c == '#') {
        while (!AtEnd() && Peek() != '\n') Take();
      } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f') {
        Take();
      } else {
        return;
      }
    }
  }

  std::string Word() {
    const size_t start = offset_;
    while (IsWord(Peek())) Take();
    return text_.substr(start, offset_ - start);
  }

  std::string Found() const { return AtEnd() ? "the end of the text" : std::string("\"") + Peek() + "\""; }
  bool AtEnd() const { return offset_ == text_.size(); }
  char Peek() const { return AtEnd() ? '\0' : text_[offset_]; }

  bool Take() {
    if (AtEnd()) return true;
    if (text_[offset_++] == '\n') {
      ++at_.line;
      at_.column = 1;
    } else {
      ++at_.column;
    }
    return true;
  }

  bool Fail(const std::string& what) {
    error_->at = at_;
    error_->what = what;
    return false;
  }

  const std::string& text_;
  Error* error_;
  size_t offset_ = 0;
  Position at_;
};

}  // namespace

std::string Error::ToString() const {
  return std::to_string(at.line) + ":" + std::to_string(at.column) + ": " + what;
}

const Field* Message::Find(const std::string& name) const {
  const Field* found = nullptr;
  for (const Field& field : fields) {
    if (field.name == name) found = &field;
  }
  return found;
}

const Message* Message::FindMessage(const std::string& name) const {
  const Field* field = Find(name);
  return field == nullptr ? nullptr : field->message.get();
}

std::string Message::Text(const std::string& name, const std::string& otherwise) const {
  const Field* field = Find(name);
  return field == nullptr ? otherwise : field->text;
}

std::vector<const Field*> Message::All(const std::string& name) const {
  std::vector<const Field*> found;
  for (const Field& field : fields) {
    if (field.name == name) found.push_back(&field);
  }
  return found;
}

bool ParseText(const std::string& text, Message* message, Error* error) {
  return Parser(text, error).Fields(message, '\0', 0);
}

}  // namespace protobuf
