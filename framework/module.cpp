#include "sketchgrad/framework/module.h"

#include <algorithm>
#include <utility>

namespace sketchgrad {

std::vector<Parameter*> Module::parameters() const {
  std::vector<Parameter*> result;
  for (const auto& parameter : parameters_) result.push_back(parameter.get());
  for (const Module* child : children_) {
    for (Parameter* parameter : child->parameters()) {
      if (std::find(result.begin(), result.end(), parameter) == result.end()) {
        result.push_back(parameter);
      }
    }
  }
  return result;
}

void Module::set_training(bool training) {
  training_ = training;
  for (Module* child : children_) child->set_training(training);
}

Parameter& Module::add_parameter(std::string full_name, const Shape& shape, Device device) {
  parameters_.push_back(std::make_unique<Parameter>(std::move(full_name), shape, device));
  return *parameters_.back();
}

void Module::add_child(Module& child) { children_.push_back(&child); }

}  // namespace sketchgrad
