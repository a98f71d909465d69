#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace sketchgrad {

// Root of everything that sketchgrad throws on purpose. The message names the operation, the values
// and what would be right: "[embedding] row 512 is outside a table of 500 rows".
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A value, shape or option that the callee cannot accept.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

// Input from outside that is damaged or malformed. `line` counts from 1; 0: the file has no lines.
class DataError : public Error {
 public:
  DataError(std::string file, int64_t line, const std::string& problem)
      : Error(file + (line > 0 ? ":" + std::to_string(line) : std::string()) + ": " + problem),
        file_(std::move(file)),
        line_(line) {}
  const std::string& file() const { return file_; }
  int64_t line() const { return line_; }

 private:
  std::string file_;
  int64_t line_;
};

// A write, sync or rename that the system refused (a full disk, a read-only folder).
class IoError : public Error {
 public:
  using Error::Error;
};

// The arithmetic left the finite numbers: a loss or a gradient norm is NaN or infinite.
class NumericError : public Error {
 public:
  using Error::Error;
};

// An allocation did not fit. The message ends with the composition of memory at that moment.
class OutOfMemory : public Error {
 public:
  OutOfMemory(const std::string& message, int64_t requested_bytes)
      : OutOfMemory(message, requested_bytes, requested_bytes) {}
  OutOfMemory(const std::string& message, int64_t requested_bytes, int64_t missing_bytes)
      : Error(message), requested_bytes_(requested_bytes), missing_bytes_(missing_bytes) {}
  int64_t requested_bytes() const { return requested_bytes_; }
  // Of them those that were not there: beyond a limit; all where the device does not tell.
  int64_t missing_bytes() const { return missing_bytes_; }

 private:
  int64_t requested_bytes_;
  int64_t missing_bytes_;
};

// A failing CUDA, cuBLAS or cuDNN call, with its expression.
class CudaError : public Error {
 public:
  using Error::Error;
};

// A backend or an op that this build does not hold.
class NotCompiled : public Error {
 public:
  using Error::Error;
};

}  // namespace sketchgrad
