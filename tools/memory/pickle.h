#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace sketchgrad::memory {

// Writes Python's pickle format, protocol 4, by those of its opcodes that PyTorch's viewer reads.
// The stack that a reader keeps is the caller's to think of.
class Pickle {
 public:
  Pickle();
  // Objects, arrays, texts, integers, truth values and null.
  void put(const nlohmann::json& value);
  // An empty list; append() ends each of its elements.
  void begin_list();
  void append();
  // A dict; keys and values in turn are put before its end.
  void begin_dict();
  void end_dict();
  // Ends the pickle and returns it.
  std::string finish();

 private:
  void put_text(const std::string& text);
  void put_integer(int64_t value);
  void put_bytes(uint64_t value, int count);

  std::string out_;
  std::map<std::string, uint32_t> texts_;  // numbers in the reader's memo
};

}  // namespace sketchgrad::memory
