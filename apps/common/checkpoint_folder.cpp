#include "sketchgrad/apps/common/checkpoint_folder.h"

#include <filesystem>
#include <system_error>

#include "sketchgrad/apps/common/output_file.h"

namespace sketchgrad::apps {

namespace fs = std::filesystem;

namespace {

constexpr const char* kLatest = "latest.safetensors";
constexpr const char* kBest = "best.safetensors";

}  // namespace

CheckpointFolder::CheckpointFolder(const std::string& folder)
    : latest_((fs::path(folder) / kLatest).string()), best_((fs::path(folder) / kBest).string()) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    throw IoError(fmt::format("[checkpoint] {}: cannot be made: {}", folder, error.message()));
  }
  check_replaceable("checkpoint", latest_);
  check_replaceable("checkpoint", best_);
}

bool CheckpointFolder::has_latest() const {
  std::error_code none;
  return fs::exists(latest_, none);
}

std::string checkpoint_file(const std::string& path) {
  std::error_code none;
  return fs::is_directory(path, none) ? (fs::path(path) / kLatest).string() : path;
}

std::string readable_checkpoint(const std::string& path) {
  const std::string file = checkpoint_file(path);
  std::error_code none;
  if (file == path || fs::exists(file, none)) return file;
  const fs::path best = fs::path(path) / kBest;
  throw DataError(
      path, 0,
      fmt::format("has no {}{}", kLatest,
                  fs::exists(best, none) ? fmt::format("; its best is {}", best.string()) : ""));
}

std::vector<std::string> checkpoint_files(const std::string& path) {
  std::error_code none;
  return fs::is_directory(path, none) ? files_of_folder(path) : std::vector<std::string>{path};
}

std::vector<std::string> files_of_folder(const std::string& folder) {
  return {(fs::path(folder) / kLatest).string(), (fs::path(folder) / kBest).string()};
}

}  // namespace sketchgrad::apps
