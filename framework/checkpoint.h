#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "sketchgrad/framework/module.h"
#include "sketchgrad/framework/tensor.h"

namespace sketchgrad {

// Named tensors and text values: everything a program needs to go on later.
struct StateDict {
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string> metadata;

  // Throw DataError naming the key where it is missing (or, for a tensor, has another shape or
  // type). The target may be on any device.
  void copy_to(const std::string& name, const Tensor& target) const;
  const std::string& text(const std::string& key) const;
  int64_t integer(const std::string& key) const;
  uint64_t unsigned_integer(const std::string& key) const;
  double real(const std::string& key) const;  // written as hexadecimal float: exact

  void set(const std::string& key, std::string value) { metadata[key] = std::move(value); }
  void set_integer(const std::string& key, int64_t value);
  void set_unsigned(const std::string& key, uint64_t value);
  void set_real(const std::string& key, double value);

  std::string source = "checkpoint";  // file name, for messages
};

// safetensors files: 8 bytes of header length (little endian), a JSON header, the tensors' bytes.
// Python: safetensors.torch.load_file(path).
//
// Writes to a temporary file beside `path`, syncs it and renames it: an existing file stays whole
// if anything fails. Tensors on CUDA are copied to the CPU one after the other. Throws IoError
// naming the path and the system's reason, also where there is something that is no regular file.
void save_safetensors(const std::string& path, const StateDict& state);
// Reads and checks everything (lengths, offsets, overlaps, types, shapes, JSON) before it
// allocates; throws DataError naming what is wrong. Tensors get the category parameter on the CPU.
// Those that `wanted` does not accept are checked but not read; without it all are.
StateDict load_safetensors(const std::string& path,
                           const std::function<bool(const std::string& name)>& wanted = {});

// A tensor in a file that is mapped, not read: its bytes are in the system's page cache, which
// keeps what it has room for, and in none of the allocator's figures.
struct MappedTensor {
  Shape shape;
  DType dtype{};
  std::shared_ptr<const void> data;  // of all copies, the last ends the mapping
};
// Checks the file as load_safetensors does, but for the tensor's bytes, of which it reads none;
// throws DataError, also where there is no tensor of that name. The file may be replaced or removed
// meanwhile, but not changed in place: reading what was cut off ends the program.
MappedTensor map_safetensors(const std::string& path, const std::string& name);

// Parameter values under their names; loading requires every parameter and shape to match.
void save_parameters(const Module&, StateDict&);
void load_parameters(const StateDict&, Module&);

}  // namespace sketchgrad
