#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sketchgrad/framework/parameter.h"

namespace sketchgrad {

// A part of a model: owns parameters, knows its children and whether it is training.
class Module {
 public:
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  // Own parameters, then the children's, each once (a tied parameter stands where it was made).
  std::vector<Parameter*> parameters() const;
  void set_training(bool training);
  bool training() const { return training_; }

 protected:
  Module() = default;
  // Registers a parameter. Its name is final, so layers take their full name when they are made.
  Parameter& add_parameter(std::string full_name, const Shape&, Device = kCpu);
  // The child must live as long as this module (a member declared in it does).
  void add_child(Module& child);

 private:
  std::vector<std::unique_ptr<Parameter>> parameters_;
  std::vector<Module*> children_;
  bool training_ = true;
};

}  // namespace sketchgrad
