#pragma once

#include <string>
#include <vector>

#include "sketchgrad/framework/checkpoint.h"

namespace sketchgrad::apps {

// A folder with latest.safetensors, and best.safetensors where there was a validation.
class CheckpointFolder {
 public:
  // Makes the folder where it is missing. Throws IoError also where its files could not be written.
  explicit CheckpointFolder(const std::string& folder);

  const std::string& latest() const { return latest_; }
  const std::string& best() const { return best_; }
  bool has_latest() const;

 private:
  std::string latest_;
  std::string best_;
};

// The file that `path` means: itself, or the latest one of a folder.
std::string checkpoint_file(const std::string& path);
// The same where it is to be read. Throws DataError for a folder without a latest one, which says
// so where there is a best one.
std::string readable_checkpoint(const std::string& path);
// Itself, or those of the folder, whether they are there or not.
std::vector<std::string> checkpoint_files(const std::string& path);
std::vector<std::string> files_of_folder(const std::string& folder);

// Of flags for one that is to be read.
inline constexpr const char* kCheckpointHelp =
    "a checkpoint, or a folder, whose latest.safetensors is taken; name its best.safetensors for "
    "the best one";

}  // namespace sketchgrad::apps
