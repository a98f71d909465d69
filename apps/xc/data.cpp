#include "sketchgrad/apps/xc/data.h"

namespace sketchgrad::apps::xc {

namespace {

void check_like(const std::string& flag, const std::string& path, const Examples& examples,
                const TrainSettings& settings, const Examples& train) {
  check(train.classes_checksum() == examples.classes_checksum(),
        "{}: {} has other classes or features than {}; prepare it with --like {}", flag, path,
        settings.data, settings.data);
}

}  // namespace

Data open_data(const TrainSettings& settings) {
  const std::string& valid = settings.valid.empty() ? settings.test : settings.valid;
  Data data{Examples::open(settings.data), Examples::open(valid), Examples::open(settings.test)};
  check_like("--test", settings.test, data.test, settings, data.train);
  check_like("--valid", valid, data.valid, settings, data.train);
  return data;
}

}  // namespace sketchgrad::apps::xc
