#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "sketchgrad/apps/common/shuffle.h"
#include "sketchgrad/apps/xc/metrics.h"
#include "sketchgrad/apps/xc/sampled_protocol.h"

namespace sketchgrad::apps::xc {
namespace {

using Ids = std::vector<int32_t>;

const Purpose kTestData{Category::data, "test"};

// So many predictions that none of them is missing: `first`, then classes that are no label.
Ids predictions(Ids first, size_t count = 100) {
  for (int32_t id = 1000; first.size() < count; ++id) first.push_back(id);
  return first;
}

Tensor counts(const Ids& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}, kTestData);
}

bool refused(const std::function<void()>& call, const std::string& part) {
  try {
    call();
  } catch (const InvalidArgument& error) {
    return std::string(error.what()).find(part) != std::string::npos;
  }
  return false;
}

TEST_CASE("xc metrics: precision and recall by hand") {
  RankingMetrics metrics;
  // Hits at 1, 3 and 12; one of the four labels is not found.
  Ids first = predictions({7, 50, 8, 51, 52});
  first[11] = 9;
  metrics.add(first, Ids{9, 8, 6, 7});
  // A single label, at the second place, which is less than k.
  metrics.add(predictions({50, 3}), Ids{3});
  const nlohmann::json json = metrics.json();
  CHECK(json.at("ranked_rows") == 2);
  CHECK(json.at("rows_without_labels") == 0);
  CHECK(json.at("precision_at_1") == doctest::Approx((1.0 + 0.0) / 2));
  CHECK(json.at("precision_at_3") == doctest::Approx((2.0 / 3 + 1.0 / 3) / 2));
  CHECK(json.at("precision_at_5") == doctest::Approx((2.0 / 5 + 1.0 / 5) / 2));
  CHECK(json.at("recall_at_1") == doctest::Approx((1.0 / 4 + 0.0) / 2));
  CHECK(json.at("recall_at_10") == doctest::Approx((2.0 / 4 + 1.0) / 2));
  CHECK(json.at("recall_at_100") == doctest::Approx((3.0 / 4 + 1.0) / 2));
  CHECK_FALSE(json.contains("psp_at_1"));
}

TEST_CASE("xc metrics: unknown labels count, and nothing hits them") {
  RankingMetrics metrics;
  metrics.add(predictions({-1, 2, -1}), Ids{-1, 2, -1, -1});
  const nlohmann::json json = metrics.json();
  CHECK(json.at("precision_at_1") == 0.0);
  CHECK(json.at("precision_at_3") == doctest::Approx(1.0 / 3));
  CHECK(json.at("recall_at_100") == doctest::Approx(1.0 / 4));
}

TEST_CASE("xc metrics: rows without labels are counted apart") {
  RankingMetrics metrics;
  metrics.add(predictions({1}), {});
  metrics.add(predictions({1}), Ids{1});
  metrics.add(predictions({1}), {});
  CHECK(metrics.rows() == 1);
  CHECK(metrics.rows_without_labels() == 2);
  CHECK(metrics.json().at("rows_without_labels") == 2);
  CHECK(metrics.json().at("precision_at_1") == 1.0);
  CHECK(RankingMetrics().json().at("recall_at_10").is_null());
}

TEST_CASE("xc metrics: depths beyond the predictions are left out") {
  RankingMetrics metrics;
  metrics.add(predictions({1}, 100), Ids{1});
  metrics.add(predictions({1}, 10), Ids{1});
  const nlohmann::json json = metrics.json();
  CHECK(json.contains("recall_at_10"));
  CHECK(json.contains("precision_at_5"));
  CHECK_FALSE(json.contains("recall_at_100"));
  metrics.add(predictions({1}, 1), Ids{1});
  CHECK_FALSE(metrics.json().contains("precision_at_3"));
  CHECK(metrics.json().at("precision_at_1") == 1.0);
}

TEST_CASE("xc metrics: propensities by hand") {
  // A = 1, B = 1, and N with log N = 3 (about): C = 2 * 2 = 4 (about), 1 / p = 1 + 4 / (N_l + 1).
  const int64_t rows = 20;
  const double c = (std::log(20.0) - 1.0) * 2.0;
  const Propensities simple(counts({0, 1, 3, 20}), rows, {.a = 1.0, .b = 1.0});
  CHECK(simple.weight(0) == doctest::Approx(1.0 + c));
  CHECK(simple.weight(1) == doctest::Approx(1.0 + c / 2));
  CHECK(simple.weight(2) == doctest::Approx(1.0 + c / 4));
  CHECK(simple.weight(3) == doctest::Approx(1.0 + c / 21));
  CHECK(simple.weight(-1) == simple.weight(0));
  // The defaults, as 1 / (1 + C exp(-A log(N_l + B))) written out.
  const Propensities usual(counts({5}), 1000);
  const double usual_c = (std::log(1000.0) - 1.0) * std::pow(2.5, 0.55);
  CHECK(1.0 / usual.weight(0) ==
        doctest::Approx(1.0 / (1.0 + usual_c * std::exp(-0.55 * std::log(6.5)))));
  CHECK(refused([] { Propensities(counts({1}), 2); }, "2 rows"));
  CHECK(refused([] { Propensities(counts({1, 21}), 20); }, "label 1 is in 21 of 20 rows"));
  CHECK(refused([] { Propensities(counts({-1}), 20); }, "label 0 is in -1"));
  CHECK(refused([] { Propensities(counts({1}), 20, {.a = 0}); }, "A = 0"));
  CHECK(refused([&] { usual.weight(1); }, "label 1 of 1 classes"));
}

TEST_CASE("xc metrics: propensity-scored precision by hand, as such and normalised") {
  const Propensities weights(counts({0, 1, 3, 20, 7}), 20, {.a = 1.0, .b = 1.0});
  const auto w = [&](int32_t label) { return weights.weight(label); };
  RankingMetrics metrics(weights);
  // Hits: the frequent label 3 first, label 1 third. Best: 0, 1, 3.
  metrics.add(predictions({3, 50, 1}), Ids{3, 1, 0});
  // A single label.
  metrics.add(predictions({50, 2}), Ids{2});
  // An unknown label, which is the rarest there is.
  metrics.add(predictions({4}), Ids{4, -1});
  const nlohmann::json json = metrics.json();
  const double at1 = w(3) + 0 + w(4), best1 = w(0) + w(2) + w(-1);
  CHECK(json.at("psp_unnormalised_at_1") == doctest::Approx(at1 / 3));
  CHECK(json.at("psp_at_1") == doctest::Approx(at1 / best1));
  const double at3 = (w(3) + w(1) + w(2) + w(4)) / 3;
  const double best3 = (w(0) + w(1) + w(3) + w(2) + w(4) + w(-1)) / 3;
  CHECK(json.at("psp_unnormalised_at_3") == doctest::Approx(at3 / 3));
  CHECK(json.at("psp_at_3") == doctest::Approx(at3 / best3));
  CHECK(json.at("psp_unnormalised_at_5") == doctest::Approx(at3 / 5));
  CHECK(json.at("psp_at_5") == doctest::Approx(at3 / best3));
  // All that can be found, rarest first.
  RankingMetrics perfect(weights);
  perfect.add(predictions({0, 1, 3}), Ids{3, 1, 0});
  CHECK(perfect.json().at("psp_at_1") == doctest::Approx(1.0));
  CHECK(perfect.json().at("psp_at_3") == doctest::Approx(1.0));
}

TEST_CASE("xc sampled protocol: labels, then a sample of others that the row's number decides") {
  const SampledProtocol protocol({.classes = 50, .samples = 40, .seed = 5});
  const Ids labels{7, -1, 3, 49};
  Ids out(43);
  CHECK(protocol.candidates(12, labels, out) == 43);
  CHECK((out[0] == 7 && out[1] == 3 && out[2] == 49));
  CHECK(std::set<int32_t>(out.begin(), out.end()).size() == 43);
  CHECK(std::all_of(out.begin(), out.end(), [](int32_t id) { return id >= 0 && id < 50; }));
  Ids again(43), other(43);
  protocol.candidates(12, labels, again);
  protocol.candidates(13, labels, other);
  CHECK(out == again);
  // A draw of its own, not the one that others make of the seed.
  const Shuffle plain(50, {5, 12});
  CHECK(out[3] != static_cast<int32_t>(plain(0)));
  CHECK(out != other);
  // A batch of rows, padded.
  const Ids one{2};
  const std::vector<std::span<const int32_t>> rows{labels, one, {}};
  const Tensor batch = protocol.candidates(12, rows);
  CHECK(batch.shape() == Shape{3, 43});
  CHECK(batch.rows(0, 1).to_vector<int32_t>() == out);
  const Ids second = batch.rows(1, 1).to_vector<int32_t>();
  CHECK((second[0] == 2 && second[40] >= 0 && second[41] == -1 && second[42] == -1));
  CHECK(batch.rows(2, 1).to_vector<int32_t>()[40] == -1);

  CHECK(refused([&] { protocol.candidates(0, Ids{50}, out); }, "label 50 of row 0"));
  CHECK(refused([&] { protocol.candidates(0, labels, std::span(out).first(42)); },
                "room for 42 candidates, row 0 has 43"));
  Ids many(11), room(100);
  std::iota(many.begin(), many.end(), 0);
  CHECK(refused([&] { protocol.candidates(0, many, room); }, "leaves no 40 others"));
  CHECK(refused([] { SampledProtocol({.classes = 5, .samples = 5}); }, "a sample of 5 of 5"));
}

TEST_CASE("xc sampled protocol: each other class is in the sample equally often") {
  constexpr int kRows = 4000, kSamples = 10;
  const SampledProtocol protocol({.classes = 31, .samples = kSamples, .seed = 6});
  std::vector<int> held(31);
  const Ids labels{4};
  Ids out(kSamples + 1);
  for (int64_t row = 0; row < kRows; ++row) {
    protocol.candidates(row, labels, out);
    for (const int32_t id : out) ++held[static_cast<size_t>(id)];
  }
  const double p = kSamples / 30.0;
  for (size_t id = 0; id < held.size(); ++id) {
    if (id == 4) {
      CHECK(held[id] == kRows);
    } else {
      CHECK(std::abs(held[id] - kRows * p) < 4.5 * std::sqrt(kRows * p * (1 - p)));
    }
  }
}

TEST_CASE("xc sampled protocol: recall by hand") {
  SampledProtocol protocol({.classes = 1000, .samples = 20});
  Ids ids(25);
  std::iota(ids.begin(), ids.end(), 100);
  std::vector<float> scores(25);
  for (size_t i = 0; i < scores.size(); ++i) scores[i] = 1.0f - 0.01f * static_cast<float>(i);
  // Rank 1, rank 11, one that is not a candidate's id, one unknown.
  protocol.add(ids, scores, Ids{100, 110, -1, 999});
  // Equal scores: the smaller id is better. Ids of -1 are nobody, NaN is behind all.
  ids[24] = -1;
  std::fill(scores.begin(), scores.end(), 0.5f);
  scores[0] = scores[24] = std::numeric_limits<float>::quiet_NaN();
  protocol.add(ids, scores, Ids{101, 110});
  protocol.add(ids, scores, {});
  const nlohmann::json json = protocol.json();
  CHECK(json.at("samples") == 20);
  CHECK(json.at("rows") == 2);
  CHECK(json.at("rows_without_labels") == 1);
  CHECK(json.at("sampled_recall_at_1") == doctest::Approx((1.0 / 4 + 1.0 / 2) / 2));
  CHECK(json.at("sampled_recall_at_10") == doctest::Approx((1.0 / 4 + 1.0) / 2));
  CHECK(json.at("sampled_recall_at_100") == doctest::Approx((2.0 / 4 + 1.0) / 2));
  CHECK(SampledProtocol({.classes = 9, .samples = 2}).json().at("sampled_recall_at_1").is_null());
}

}  // namespace
}  // namespace sketchgrad::apps::xc
