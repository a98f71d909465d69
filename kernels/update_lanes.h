#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <variant>

#include "sketchgrad/kernels/for_each.h"
#include "sketchgrad/kernels/lane_group.h"
#include "sketchgrad/kernels/sketch_piece_rules.h"
#include "sketchgrad/kernels/update.h"
#include "sketchgrad/kernels/vector_access.h"

// update_rows on the GPU where a variable is advanced piece by piece: one that lies in a sketch, or
// a PieceAccess. A lane group takes one piece of a row's
// columns, or of all rows of a bucket. A bucket has one writer, and takes its rows in their order.
//
// Where all sketches of the step have one plan of one depth, as in the default pair, a group takes
// a bucket's rows one after the other (BucketLanes): cells, gradient and parameter are read once
// and written once, and nothing else is stored. Otherwise (several depths, plans of their own,
// requery, very many rows a bucket) one pass over the rows leaves their changes in a tile of
// columns (RowLanes), and one over the buckets takes them in (TakeInBuckets), tile by tile. Without
// a sketch there is the pass over the rows alone.
namespace sketchgrad::kernels {

// ---- What kernels need of a step, to be copied to the device

// One auxiliary variable.
struct LaneVariable {
  enum class Kind : uint8_t { none, dense, sketch, factored, bf16, block };
  Kind kind = Kind::none;
  DenseState dense;
  FactoredState factored;
  Bf16State bf16;
  BlockState block;
  SketchView sketch;
  const Slot* slots = nullptr;  // [depth, rows]
  int64_t rows = 0;             // of the step
  SketchStep step;
  Matrix row_state;
  int64_t first_own_bucket = 0;

  struct Make {
    LaneVariable operator()(const NoState&) const { return {}; }
    LaneVariable operator()(const DenseState& state) const {
      LaneVariable variable;
      variable.kind = Kind::dense;
      variable.dense = state;
      return variable;
    }
    LaneVariable operator()(const FactoredState& state) const {
      LaneVariable variable;
      variable.kind = Kind::factored;
      variable.factored = state;
      return variable;
    }
    LaneVariable operator()(const Bf16State& state) const {
      LaneVariable variable;
      variable.kind = Kind::bf16;
      variable.bf16 = state;
      return variable;
    }
    LaneVariable operator()(const BlockState& state) const {
      LaneVariable variable;
      variable.kind = Kind::block;
      variable.block = state;
      return variable;
    }
    LaneVariable operator()(const SketchState& state) const {
      LaneVariable variable;
      variable.kind = Kind::sketch;
      variable.sketch = state.sketch;
      variable.slots = state.plan->slots;
      variable.rows = state.plan->rows;
      variable.step = state.step;
      variable.row_state = state.row_state;
      variable.first_own_bucket = state.sketch.width - state.own_buckets;
      return variable;
    }
  };
  static LaneVariable of(const StateAccess& access) { return std::visit(Make{}, access); }

  bool is_sketch() const { return kind == Kind::sketch; }
  // A variable whose value the rule reads and that stays as it is.
  LaneVariable reread() const {
    LaneVariable variable = *this;
    variable.step.accumulate = variable.step.accumulate.nothing();
    return variable;
  }
};

// Any of the rules: which one is the same for all threads.
struct LaneRule {
  int kind = 0;  // index in UpdateRule
  SgdRule sgd{};
  MomentumRule momentum{};
  RootScaledRule root_scaled{};
  AdamRule adam{};
  Sm3Rule sm3{};

  explicit LaneRule(const UpdateRule& rule) : kind(static_cast<int>(rule.index())) {
    if (const auto* r = std::get_if<SgdRule>(&rule)) sgd = *r;
    if (const auto* r = std::get_if<MomentumRule>(&rule)) momentum = *r;
    if (const auto* r = std::get_if<RootScaledRule>(&rule)) root_scaled = *r;
    if (const auto* r = std::get_if<AdamRule>(&rule)) adam = *r;
    if (const auto* r = std::get_if<Sm3Rule>(&rule)) sm3 = *r;
  }
  SG_HD float operator()(float w, float g, float x1, float x2) const {
    static_assert(std::variant_size_v<UpdateRule> == 5);
    switch (kind) {
      case 0:
        return sgd(w, g, x1, x2);
      case 1:
        return momentum(w, g, x1, x2);
      case 2:
        return root_scaled(w, g, x1, x2);
      case 3:
        return adam(w, g, x1, x2);
      default:
        return sm3(w, g, x1, x2);
    }
  }
};

// How lanes share the columns of a piece: kSteps times kVec neighbouring columns each.
template <int kVecOf, int kStepsOf>
struct LaneSpan {
  static constexpr int kVec = kVecOf;
  static constexpr int kSteps = kStepsOf;
  struct Values {
    Floats<kVec> step[kSteps]{};
  };

  int lane;
  int lanes;
  int64_t columns;

  // f(step, column)
  template <class F>
  SG_HD void for_each_step(const F& f) const {
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int s = 0; s < kSteps; ++s) {
      const int64_t column = int64_t{s * lanes + lane} * kVec;
      if (column < columns) f(s, column);
    }
  }
  SG_HD Values load(const float* row) const {
    Values values;
    for_each_step([&](int s, int64_t c) { values.step[s] = load_floats<kVec>(row + c); });
    return values;
  }
  SG_HD void store(const Values& values, float* row) const {
    for_each_step([&](int s, int64_t c) { store_floats<kVec>(values.step[s], row + c); });
  }
};

// Columns [begin, begin + columns) of the table that one call works on, in pieces.
struct LaneTile {
  int64_t begin = 0;
  int64_t columns = 0;
  int64_t piece_columns = 1;

  SG_HD int64_t pieces() const { return (columns + piece_columns - 1) / piece_columns; }
  SG_HD int64_t piece_begin(int64_t piece) const { return begin + piece * piece_columns; }
  SG_HD int64_t piece_size(int64_t piece) const {
    const int64_t left = columns - piece * piece_columns;
    return left < piece_columns ? left : piece_columns;
  }
};

// ---- One piece of a row

// A sketched variable's new values and the row's change, from the readings of its depths:
// read(j, s) gives those of depth j in step s, sign and scale included. `r`: the entry.
template <int kDepth, class Span, class Group, class Read>
SG_HD void advance_piece(const Group& group, const Span& span, const LaneVariable& variable,
                         int64_t r, float* row_state, const Read& read,
                         const typename Span::Values& gradient, typename Span::Values& value,
                         typename Span::Values& change) {
  const SketchStep& step = variable.step;
  float state = row_state != nullptr ? *row_state : 0.0f;
  typename Span::Values estimate;
  PieceSums<float> sums;
  span.for_each_step([&](int s, int64_t c) {
    Floats<Span::kVec> readings[kDepth];
    for (int j = 0; j < kDepth; ++j) readings[j] = read(j, s, c);
    for (int i = 0; i < Span::kVec; ++i) {
      float v[kDepth];
      for (int j = 0; j < kDepth; ++j) v[j] = readings[j].at[i];
      estimate.step[s].at[i] = combine_readings(step.combine, v);
      add_column(step.rows, v, estimate.step[s].at[i], gradient.step[s].at[i], sums);
    }
  });
  if (step.rows == RowWeights::by_depths) sums.noise = sum_over_lanes(group, sums.noise);
  if (step.rows != RowWeights::constant) sums.power = sum_over_lanes(group, sums.power);
  if (row_state != nullptr) {
    sums.cross = sum_over_lanes(group, sums.cross);
    sums.input = sum_over_lanes(group, sums.input);
    sums.sum = sum_over_lanes(group, sums.sum);
  }
  const bool alone = slot_bucket(variable.slots[r]) >= variable.first_own_bucket;
  const PieceWeights weights = weigh_piece<kDepth>(step.rows, step, step.accumulate.of_entry(r),
                                                   sums, span.columns, alone, state);
  if (row_state != nullptr) {
    group.sync();  // all lanes have read the old state
    if (group.lane() == 0) *row_state = state;
  }
  span.for_each_step([&](int s, int64_t) {
    for (int i = 0; i < Span::kVec; ++i) {
      const float input = step.accumulate.input(gradient.step[s].at[i]);
      value.step[s].at[i] = piece_value(weights, estimate.step[s].at[i], input);
      change.step[s].at[i] = piece_change(weights, estimate.step[s].at[i], input);
    }
  });
}

// Cells of a bucket, from a column of the view on.
template <class Span>
SG_HD typename Span::Values load_cells(const Span& span, const SketchView& sketch, int64_t place,
                                       int64_t column) {
  if (sketch.bf16 == nullptr) return span.load(sketch.cells + place * sketch.stride + column);
  typename Span::Values values;
  span.for_each_step([&](int s, int64_t c) {
    for (int i = 0; i < Span::kVec; ++i) values.step[s].at[i] = sketch.load(place, column + c + i);
  });
  return values;
}
template <class Span>
SG_HD void store_cells(const Span& span, const SketchView& sketch, int64_t place, int64_t column,
                       const typename Span::Values& values) {
  if (sketch.bf16 == nullptr)
    return span.store(values, sketch.cells + place * sketch.stride + column);
  span.for_each_step([&](int s, int64_t c) {
    for (int i = 0; i < Span::kVec; ++i) sketch.store(place, column + c + i, values.step[s].at[i]);
  });
}

SG_HD float* row_state_of(const LaneVariable& variable, int64_t id, int64_t piece) {
  return variable.row_state.data != nullptr ? variable.row_state.row(id) + piece : nullptr;
}
SG_HD float slot_factor(const SketchStep& step, Slot slot) {
  return step.with_signs ? slot_sign(slot) : 1.0f;
}

// value = f(column of the piece, gradient)
template <class Span, class F>
SG_HD void for_each_value(const Span& span, const typename Span::Values& gradient,
                          typename Span::Values& value, const F& f) {
  span.for_each_step([&](int s, int64_t c) {
    for (int i = 0; i < Span::kVec; ++i) value.step[s].at[i] = f(c + i, gradient.step[s].at[i]);
  });
}

template <class Group, class Span>
SG_HD void advance_block(const Group& group, const Span& span, const BlockState& state, int64_t r,
                         int64_t id, int64_t column, int64_t piece,
                         const typename Span::Values& gradient, typename Span::Values& value) {
  const BlockState::Row row = state.row(r, id);
  const float old = row.scales[piece];
  uint32_t largest = 0;
  for_each_value(span, gradient, value, [&](int64_t c, float g) {
    const float next = row.next(column + c, g, old);
    largest = Larger()(largest, magnitude_bits<uint32_t>(next));
    return next;
  });
  largest = combine_over_lanes(group, largest, Larger());
  const BlockScale scale = BlockScale::of(same_bits<float>(largest), row.with_signs);
  group.sync();  // all lanes have read the old scale
  if (group.lane() == 0) row.scales[piece] = scale.scale;
  span.for_each_step([&](int s, int64_t c) {
    for (int i = 0; i < Span::kVec; ++i) {
      row.store(column + c + i, value.step[s].at[i], scale.inverse);
    }
  });
}

// A variable that lies in no sketch.
template <class Group, class Span>
SG_HD void advance_elements(const Group& group, const Span& span, const LaneVariable& variable,
                            int64_t r, int64_t id, int64_t column, int64_t piece,
                            const typename Span::Values& gradient, typename Span::Values& value) {
  if (variable.kind == LaneVariable::Kind::none) {
    value = gradient;
    return;
  }
  if (variable.kind == LaneVariable::Kind::block) {
    return advance_block(group, span, variable.block, r, id, column, piece, gradient, value);
  }
  if (variable.kind == LaneVariable::Kind::factored) {
    const FactoredState::Row row = variable.factored.row(r, id);
    return for_each_value(span, gradient, value,
                          [&](int64_t c, float g) { return row.next(column + c, g); });
  }
  if (variable.kind == LaneVariable::Kind::bf16) {
    const Bf16State::Row row = variable.bf16.row(r, id);
    return for_each_value(span, gradient, value, [&](int64_t c, float g) {
      const float next = row.next(column + c, g);
      row.store(column + c, next);
      return next;
    });
  }
  const DenseState::Row row = variable.dense.row(r, id);
  const typename Span::Values old = span.load(row.x + column);
  span.for_each_step([&](int s, int64_t) {
    for (int i = 0; i < Span::kVec; ++i) {
      value.step[s].at[i] = row.next(old.step[s].at[i], gradient.step[s].at[i]);
    }
  });
  span.store(value, row.x + column);
}

template <class Span>
SG_HD void apply_rule(const Span& span, const LaneRule& rule, const typename Span::Values& gradient,
                      const typename Span::Values& x1, const typename Span::Values& x2,
                      float* parameter) {
  typename Span::Values w = span.load(parameter);
  span.for_each_step([&](int s, int64_t) {
    for (int i = 0; i < Span::kVec; ++i) {
      w.step[s].at[i] =
          rule(w.step[s].at[i], gradient.step[s].at[i], x1.step[s].at[i], x2.step[s].at[i]);
    }
  });
  span.store(w, parameter);
}

// ---- Kernel bodies

// Unit: group of rows x piece.
template <class Span>
struct BucketLanes {
  LaneRule rule;
  LaneVariable first;
  LaneVariable second;
  Groups groups;
  const int32_t* ids;
  ConstMatrix gradient;
  Matrix parameter;
  LaneTile tile;
  using Values = typename Span::Values;

  // A variable while its bucket's rows go by.
  struct Bucket {
    int64_t place = -1;  // of a sketch
    Values old;
    Values sum;
  };

  template <class Group>
  SG_HD void operator()(const Group& group, int64_t unit) const {
    const int64_t g = unit / tile.pieces();
    const int64_t piece = unit % tile.pieces();
    const int32_t bucket = groups.keys[g];
    if (bucket < 0) return;
    const Span span{group.lane(), group.lanes(), tile.piece_size(piece)};
    const int64_t column = tile.piece_begin(piece);
    Bucket bucket1 = open(span, first, bucket, column);
    Bucket bucket2 = open(span, second, bucket, column);
    const int32_t begin = groups.begin[g];
    const int32_t end = groups.begin[g + 1];
    for (int32_t i = begin; i < end; ++i) {
      const int32_t r = groups.order[i];
      const int64_t id = ids != nullptr ? ids[r] : r;
      const Values u = span.load(gradient.row(r) + column);
      Values x1, x2;
      advance(group, span, first, r, id, column, piece, u, bucket1, x1);
      advance(group, span, second, r, id, column, piece, u, bucket2, x2);
      apply_rule(span, rule, u, x1, x2, parameter.row(id) + column);
    }
    close(span, first, end - begin, column, bucket1);
    close(span, second, end - begin, column, bucket2);
  }

 private:
  SG_HD static Bucket open(const Span& span, const LaneVariable& variable, int32_t bucket,
                           int64_t column) {
    Bucket result;
    if (variable.kind != LaneVariable::Kind::sketch) return result;
    result.place = bucket;
    result.old = load_cells(span, variable.sketch, bucket, column);
    return result;
  }
  template <class Group>
  SG_HD static void advance(const Group& group, const Span& span, const LaneVariable& variable,
                            int32_t r, int64_t id, int64_t column, int64_t piece,
                            const Values& gradient, Bucket& bucket, Values& value) {
    if (variable.kind != LaneVariable::Kind::sketch) {
      advance_elements(group, span, variable, r, id, column, piece, gradient, value);
      return;
    }
    const float sign = slot_factor(variable.step, variable.slots[r]);
    const float factor = variable.step.cell_scale * sign;
    Values change;
    advance_piece<1>(
        group, span, variable, r, row_state_of(variable, id, piece),
        [&](int, int s, int64_t) {
          Floats<Span::kVec> reading = bucket.old.step[s];
          for (int i = 0; i < Span::kVec; ++i) reading.at[i] *= factor;
          return reading;
        },
        gradient, value, change);
    span.for_each_step([&](int s, int64_t) {
      for (int i = 0; i < Span::kVec; ++i) {
        bucket.sum.step[s].at[i] += sign * change.step[s].at[i];
      }
    });
  }
  SG_HD static void close(const Span& span, const LaneVariable& variable, int32_t members,
                          int64_t column, Bucket& bucket) {
    if (bucket.place < 0) return;
    const BucketStep step = BucketStep::of(variable.step, static_cast<float>(members));
    span.for_each_step([&](int s, int64_t) {
      for (int i = 0; i < Span::kVec; ++i) {
        bucket.old.step[s].at[i] = step(bucket.old.step[s].at[i], bucket.sum.step[s].at[i]);
      }
    });
    store_cells(span, variable.sketch, bucket.place, column, bucket.old);
  }
};

// Unit: row x piece of the tile.
template <class Span>
struct RowLanes {
  // What the pass does with a variable.
  struct Part {
    LaneVariable variable;
    Matrix change;  // [rows, tile.columns]: where a sketch's change goes; no data: nowhere
    bool advances = true;
  };
  LaneRule rule;
  Part first;
  Part second;
  bool updates;  // applies the rule
  const int32_t* ids;
  ConstMatrix gradient;
  Matrix parameter;
  LaneTile tile;
  using Values = typename Span::Values;

  template <class Group>
  SG_HD void operator()(const Group& group, int64_t unit) const {
    const int64_t r = unit / tile.pieces();
    const int64_t piece = unit % tile.pieces();
    const int64_t id = ids != nullptr ? ids[r] : r;
    if (id < 0) return;
    const Span span{group.lane(), group.lanes(), tile.piece_size(piece)};
    const int64_t column = tile.piece_begin(piece);
    const Values u = span.load(gradient.row(r) + column);
    Values x1, x2;
    if (first.advances) advance(group, span, first, r, id, column, u, x1);
    if (second.advances) advance(group, span, second, r, id, column, u, x2);
    if (updates) apply_rule(span, rule, u, x1, x2, parameter.row(id) + column);
  }

 private:
  template <class Group>
  SG_HD void advance(const Group& group, const Span& span, const Part& part, int64_t r, int64_t id,
                     int64_t column, const Values& gradients, Values& value) const {
    if (part.variable.kind != LaneVariable::Kind::sketch) {
      advance_elements(group, span, part.variable, r, id, column, column / tile.piece_columns,
                       gradients, value);
      return;
    }
    switch (part.variable.sketch.depth) {
      case 1:
        return advance_sketch<1>(group, span, part, r, id, column, gradients, value);
      case 2:
        return advance_sketch<2>(group, span, part, r, id, column, gradients, value);
      case 3:
        return advance_sketch<3>(group, span, part, r, id, column, gradients, value);
      case 4:
        return advance_sketch<4>(group, span, part, r, id, column, gradients, value);
      case 5:
        return advance_sketch<5>(group, span, part, r, id, column, gradients, value);
      case 6:
        return advance_sketch<6>(group, span, part, r, id, column, gradients, value);
      case 7:
        return advance_sketch<7>(group, span, part, r, id, column, gradients, value);
      default:
        static_assert(kMaxSketchDepth == 8);
        return advance_sketch<8>(group, span, part, r, id, column, gradients, value);
    }
  }
  template <int kDepth, class Group>
  SG_HD void advance_sketch(const Group& group, const Span& span, const Part& part, int64_t r,
                            int64_t id, int64_t column, const Values& gradients,
                            Values& value) const {
    const LaneVariable& variable = part.variable;
    int64_t places[kDepth];
    float factor[kDepth];
    for (int j = 0; j < kDepth; ++j) {
      const Slot slot = variable.slots[j * variable.rows + r];
      places[j] = variable.sketch.place(j, slot_bucket(slot));
      factor[j] = variable.step.cell_scale * slot_factor(variable.step, slot);
    }
    Values change;
    advance_piece<kDepth>(
        group, span, variable, r, row_state_of(variable, id, column / tile.piece_columns),
        [&](int j, int, int64_t c) {
          Floats<Span::kVec> reading;
          if (variable.sketch.bf16 == nullptr) {
            reading = load_floats<Span::kVec>(variable.sketch.cells +
                                              places[j] * variable.sketch.stride + column + c);
          } else {
            for (int i = 0; i < Span::kVec; ++i) {
              reading.at[i] = variable.sketch.load(places[j], column + c + i);
            }
          }
          for (int i = 0; i < Span::kVec; ++i) reading.at[i] *= factor[j];
          return reading;
        },
        gradients, value, change);
    if (part.change.data != nullptr) {
      span.store(change, part.change.row(r) + (column - tile.begin));
    }
  }
};

// For for_each_row over the buckets of one depth and the columns of a tile: the bucket takes in its
// rows' changes, in their order.
struct TakeInBuckets {
  SketchView sketch;  // cut to the tile
  int32_t depth_index;
  Groups groups;
  const Slot* slots;  // of the depth
  SketchStep step;
  ConstMatrix change;  // [rows, tile columns]

  struct Column {
    SketchView sketch;
    int64_t place;
    const int32_t* rows;
    int32_t count;
    const Slot* slots;
    bool with_signs;
    BucketStep step;
    ConstMatrix change;
    SG_HD void operator()(int64_t c) const {
      float sum = 0.0f;
      for (int32_t i = 0; i < count; ++i) {
        const float sign = with_signs ? slot_sign(slots[rows[i]]) : 1.0f;
        sum += sign * change(rows[i], c);
      }
      sketch.store(place, c, step(sketch.load(place, c), sum));
    }
  };
  SG_HD bool skip(int64_t g) const { return groups.keys[g] < 0; }
  SG_HD Column operator()(int64_t g) const {
    const int32_t count = groups.begin[g + 1] - groups.begin[g];
    return {sketch,
            sketch.place(depth_index, groups.keys[g]),
            groups.order + groups.begin[g],
            count,
            slots,
            step.with_signs,
            BucketStep::of(step, static_cast<float>(count)),
            change};
  }
};

// ---- How a step is cut

// The most that changes of one tile may take.
inline constexpr int64_t kChangeTileBytes = int64_t{64} << 20;
// Beyond so many active rows a bucket on average, one lane group after another would wait for long
// buckets: rows go first.
inline constexpr int64_t kBucketRows = 64;

inline int lanes_of_piece(int64_t columns, int vec) {
  int lanes = 1;
  while (lanes < kWarpLanes && int64_t{lanes} * vec < columns) lanes *= 2;
  return lanes;
}

// The columns of a tile: whole pieces.
inline int64_t change_tile_columns(int64_t rows, int64_t dim, int64_t piece, int sketches) {
  const int64_t bytes_a_column =
      std::max<int64_t>(1, rows * sketches * static_cast<int64_t>(sizeof(float)));
  const int64_t columns = kChangeTileBytes / bytes_a_column / piece * piece;
  return std::clamp(columns, piece, std::max(piece, dim));
}

// The plan by whose buckets rows are walked, or null.
inline const SketchPlan* plan_to_take_by(const StateAccess& first, const StateAccess& second) {
  const auto* sketch1 = std::get_if<SketchState>(&first);
  const auto* sketch2 = std::get_if<SketchState>(&second);
  if (sketch1 == nullptr && sketch2 == nullptr) return nullptr;
  const SketchPlan* const plan = sketch1 != nullptr ? sketch1->plan : sketch2->plan;
  for (const auto* sketch : {sketch1, sketch2}) {
    if (sketch == nullptr) continue;
    if (sketch->plan != plan || sketch->step.requery) return nullptr;
  }
  return plan->depth == 1 && plan->rows <= kBucketRows * plan->width ? plan : nullptr;
}

template <int kVec>
bool is_aligned(const LaneVariable& variable) {
  if (variable.kind == LaneVariable::Kind::dense) return is_aligned<kVec>(variable.dense.state);
  if (!variable.is_sketch() || variable.sketch.bf16 != nullptr) return true;
  return is_aligned<kVec>(ConstMatrix{variable.sketch.cells, variable.sketch.width,
                                      variable.sketch.dim, variable.sketch.stride});
}

template <class Span, class Policy>
void take_buckets(const Policy& policy, const SketchPlan& plan, const LaneRule& rule,
                  const LaneVariable& first, const LaneVariable& second, const int32_t* ids,
                  ConstMatrix gradient, Matrix parameter, int64_t piece) {
  const LaneTile tile{0, gradient.cols, piece};
  const Groups& groups = plan.groups[0];
  for_each_unit(policy, groups.count * tile.pieces(), lanes_of_piece(piece, Span::kVec),
                BucketLanes<Span>{rule, first, second, groups, ids, gradient, parameter, tile});
}

template <class Policy>
void take_in_change(const Policy& policy, const StateAccess& access, const LaneTile& tile,
                    ConstMatrix change) {
  const auto* state = std::get_if<SketchState>(&access);
  if (state == nullptr) return;
  const SketchPlan& plan = *state->plan;
  for (int32_t j = 0; j < plan.depth; ++j) {
    const Groups& groups = plan.groups[static_cast<size_t>(j)];
    for_each_row(policy, groups.count, tile.columns,
                 TakeInBuckets{state->sketch.columns(tile.begin, tile.columns), j, groups,
                               plan.slots + j * plan.rows, state->step, change});
  }
}

template <class Span, class Policy>
void take_rows(const Policy& policy, const Exec& exec, const LaneRule& rule,
               const StateAccess& first, const StateAccess& second, const int32_t* ids,
               ConstMatrix gradient, Matrix parameter, int64_t piece) {
  const LaneVariable variable1 = LaneVariable::of(first);
  const LaneVariable variable2 = LaneVariable::of(second);
  const int sketches = (variable1.is_sketch() ? 1 : 0) + (variable2.is_sketch() ? 1 : 0);
  const int64_t rows = gradient.rows;
  const int64_t widest = change_tile_columns(rows, gradient.cols, piece, sketches);
  const int64_t change_size = rows * widest;
  const ScratchArray<float> change1(exec, variable1.is_sketch() ? change_size : 0, "sketch.change");
  const ScratchArray<float> change2(exec, variable2.is_sketch() ? change_size : 0, "sketch.change");
  const bool requery1 = variable1.is_sketch() && variable1.step.requery;
  const bool requery2 = variable2.is_sketch() && variable2.step.requery;
  const int lanes = lanes_of_piece(piece, Span::kVec);
  for (int64_t begin = 0; begin < gradient.cols; begin += widest) {
    const LaneTile tile{begin, std::min(widest, gradient.cols - begin), piece};
    const int64_t units = rows * tile.pieces();
    const Matrix tile1 = contiguous(change1.data(), rows, tile.columns);
    const Matrix tile2 = contiguous(change2.data(), rows, tile.columns);
    using Rows = RowLanes<Span>;
    if (requery1 || requery2) {
      for_each_unit(policy, units, lanes,
                    Rows{rule,
                         {variable1, tile1, requery1},
                         {variable2, tile2, requery2},
                         false,
                         ids,
                         gradient,
                         parameter,
                         tile});
      if (requery1) take_in_change(policy, first, tile, tile1);
      if (requery2) take_in_change(policy, second, tile, tile2);
    }
    for_each_unit(policy, units, lanes,
                  Rows{rule,
                       {requery1 ? variable1.reread() : variable1, requery1 ? Matrix{} : tile1},
                       {requery2 ? variable2.reread() : variable2, requery2 ? Matrix{} : tile2},
                       true,
                       ids,
                       gradient,
                       parameter,
                       tile});
    if (!requery1) take_in_change(policy, first, tile, tile1);
    if (!requery2) take_in_change(policy, second, tile, tile2);
  }
}

template <class Span, class Policy>
void update_by_lanes(const Policy& policy, const Exec& exec, const LaneRule& rule,
                     const StateAccess& first, const StateAccess& second, const int32_t* ids,
                     ConstMatrix gradient, Matrix parameter, int64_t piece) {
  if (const SketchPlan* const plan = plan_to_take_by(first, second)) {
    take_buckets<Span>(policy, *plan, rule, LaneVariable::of(first), LaneVariable::of(second), ids,
                       gradient, parameter, piece);
  } else {
    take_rows<Span>(policy, exec, rule, first, second, ids, gradient, parameter, piece);
  }
}

template <class Policy>
void update_pieces_by_lanes(const Policy& policy, const Exec& exec, const UpdateRule& rule,
                            const StateAccess& first, const StateAccess& second, const int32_t* ids,
                            ConstMatrix gradient, Matrix parameter) {
  if (gradient.rows == 0 || gradient.cols == 0) return;
  const LaneRule lane_rule(rule);
  const int64_t piece = sketch_piece_columns(gradient.cols);
  const bool aligned = is_aligned<4>(gradient) && is_aligned<4>(ConstMatrix(parameter)) &&
                       is_aligned<4>(LaneVariable::of(first)) &&
                       is_aligned<4>(LaneVariable::of(second));
  const auto update = [&]<class Span>(Span) {
    update_by_lanes<Span>(policy, exec, lane_rule, first, second, ids, gradient, parameter, piece);
  };
  if (!aligned) {
    update(LaneSpan<1, kWidestPiece / kWarpLanes>{});
  } else if (piece <= 4 * kWarpLanes) {
    update(LaneSpan<4, 1>{});
  } else {
    update(LaneSpan<4, kWidestPiece / kWarpLanes / 4>{});
  }
}

}  // namespace sketchgrad::kernels
