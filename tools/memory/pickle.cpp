#include "sketchgrad/tools/memory/pickle.h"

#include <utility>

namespace sketchgrad::memory {

namespace {

// Of Python's pickletools.
constexpr char kProto = '\x80', kStop = '.', kNone = 'N', kTrue = '\x88', kFalse = '\x89';
constexpr char kInt32 = 'J', kLong = '\x8a', kUnicode = 'X', kMemoize = '\x94', kGet = 'j';
constexpr char kEmptyList = ']', kAppend = 'a', kEmptyDict = '}', kMark = '(', kSetItems = 'u';

}  // namespace

Pickle::Pickle() : out_{kProto, 4} {}

void Pickle::put(const nlohmann::json& value) {
  if (value.is_object()) {
    begin_dict();
    for (const auto& [key, entry] : value.items()) {
      put_text(key);
      put(entry);
    }
    end_dict();
  } else if (value.is_array()) {
    begin_list();
    for (const nlohmann::json& entry : value) {
      put(entry);
      append();
    }
  } else if (value.is_string()) {
    put_text(value);
  } else if (value.is_boolean()) {
    out_ += value.get<bool>() ? kTrue : kFalse;
  } else if (value.is_null()) {
    out_ += kNone;
  } else {
    put_integer(value);
  }
}

void Pickle::begin_list() { out_ += kEmptyList; }

void Pickle::append() { out_ += kAppend; }

void Pickle::begin_dict() { (out_ += kEmptyDict) += kMark; }

void Pickle::end_dict() { out_ += kSetItems; }

std::string Pickle::finish() {
  out_ += kStop;
  return std::move(out_);
}

void Pickle::put_text(const std::string& text) {
  const auto [known, is_new] = texts_.try_emplace(text, static_cast<uint32_t>(texts_.size()));
  if (is_new) {
    out_ += kUnicode;
    put_bytes(text.size(), 4);
    (out_ += text) += kMemoize;
  } else {
    out_ += kGet;
    put_bytes(known->second, 4);
  }
}

void Pickle::put_integer(int64_t value) {
  const bool is_small = std::in_range<int32_t>(value);
  out_ += is_small ? kInt32 : kLong;
  if (!is_small) put_bytes(sizeof(value), 1);
  put_bytes(static_cast<uint64_t>(value), is_small ? 4 : 8);
}

void Pickle::put_bytes(uint64_t value, int count) {
  for (int i = 0; i < count; ++i) out_ += static_cast<char>(value >> (8 * i) & 0xff);
}

}  // namespace sketchgrad::memory
