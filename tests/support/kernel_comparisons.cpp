#include "sketchgrad/tests/support/kernel_comparisons.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "sketchgrad/kernels/elementwise.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/factors.h"
#include "sketchgrad/kernels/gemm.h"
#include "sketchgrad/kernels/lsh.h"
#include "sketchgrad/kernels/lstm.h"
#include "sketchgrad/kernels/lstm_layer.h"
#include "sketchgrad/kernels/multi_label.h"
#include "sketchgrad/kernels/random.h"
#include "sketchgrad/kernels/reduce.h"
#include "sketchgrad/kernels/rows.h"
#include "sketchgrad/kernels/sketch.h"
#include "sketchgrad/kernels/softmax.h"
#include "sketchgrad/tests/support/compare_devices.h"
#include "sketchgrad/tests/support/lstm_layer_reference.h"

namespace sketchgrad::test {

namespace {

using kernels::Exec;
using kernels::Transpose;

// One rounding more or less, where one device fuses a product and a sum that the other does not.
constexpr Tolerance kOneRounding{2e-7, 2e-7};
// The formulas of math_rules.h, to a few units in the last place on either device.
constexpr Tolerance kFormula{2e-6, 1e-6};
// Sums of about a hundred float products, in another order.
constexpr Tolerance kFloatSums{0.0, 1e-5};
// Sums in double, in another order.
constexpr Tolerance kDoubleSums{1e-12, 0.0};

// No element, one, less than a warp, more than one, several blocks of any loop.
constexpr int64_t kCounts[] = {0, 1, 7, 33, 257, 70001};
constexpr int64_t kDims[] = {1, 7, 33};

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

}  // namespace

void compare_elementwise(Device other) {
  using kernels::Binary;
  using kernels::Unary;
  for (const int64_t count : kCounts) {
    CAPTURE(count);
    Draw draw(1);
    std::vector<float> a = draw.floats(count, -5.0f, 5.0f);
    const std::vector<float> b = draw.floats(count);
    if (count > 20) {
      a[3] = kNaN;
      a[5] = INFINITY;
      a[20] = -100.0f;
    }
    compare_with_cpu(other, [&](Device device) {
      const Exec exec = exec_on(device);
      const Tensor in = on(device, a), more = on(device, b);
      Outputs outputs;
      const auto apply = [&](const char* name, Tolerance tolerance, const auto& call) {
        const Tensor out = on(device, b);
        call(out.data<float>());
        outputs.push_back(output(name, out, tolerance));
      };
      const float* const x = in.data<float>();
      const float* const y = more.data<float>();
      apply("fill", kExact, [&](float* out) { kernels::fill(exec, out, count, 2.5f); });
      apply("copy", kExact, [&](float* out) { kernels::copy(exec, x, out, count); });
      apply("scale", kExact, [&](float* out) { kernels::scale(exec, x, -0.3f, out, count); });
      apply("scale in place", kExact,
            [&](float* out) { kernels::scale(exec, out, -0.3f, out, count); });
      const Tensor factor = on<float>(device, {1.7f});
      apply("scale_by", kExact,
            [&](float* out) { kernels::scale_by(exec, x, factor.data<float>(), out, count); });
      apply("add_scaled", kOneRounding,
            [&](float* out) { kernels::add_scaled(exec, x, 0.7f, out, count); });
      for (const Unary op : {Unary::relu, Unary::sigmoid, Unary::tanh}) {
        apply("unary", op == Unary::relu ? kExact : kFormula,
              [&](float* out) { kernels::unary(exec, op, x, out, count); });
        apply("unary_backward", op == Unary::relu ? kExact : kFormula,
              [&](float* out) { kernels::unary_backward(exec, op, y, x, out, count); });
      }
      for (const Binary op : {Binary::add, Binary::subtract, Binary::multiply}) {
        apply("binary", kExact, [&](float* out) { kernels::binary(exec, op, x, y, out, count); });
      }
      return outputs;
    });
  }
  for (const int64_t rows : {0, 1, 300}) {
    for (const int64_t dim : kDims) {
      CAPTURE(rows);
      CAPTURE(dim);
      Draw draw(2);
      const std::vector<float> values = draw.floats(Framed::floats(rows, dim));
      const std::vector<float> row = draw.floats(dim);
      compare_with_cpu(other, [&](Device device) {
        const Framed matrix(device, values, rows, dim);
        kernels::add_row(exec_on(device), matrix.matrix(), on(device, row).data<float>());
        return Outputs{output("add_row", matrix.storage())};
      });
    }
  }
}

void compare_gemm(Device other) {
  struct Size {
    int64_t m, n, k;
  };
  struct Factors {
    float alpha, beta;
  };
  for (const Size size : {Size{1, 1, 1},
                          {7, 33, 1},
                          {33, 7, 64},
                          {64, 130, 33},
                          {1, 257, 100},
                          {5, 3, 0},
                          {0, 3, 4},
                          {3, 0, 4}}) {
    CAPTURE(size.m);
    CAPTURE(size.n);
    CAPTURE(size.k);
    for (const Transpose ta : {Transpose::no, Transpose::yes}) {
      for (const Transpose tb : {Transpose::no, Transpose::yes}) {
        for (const Factors factors : {Factors{1.0f, 0.0f}, {-0.5f, 1.0f}, {2.0f, 0.25f}}) {
          CAPTURE(factors.alpha);
          CAPTURE(factors.beta);
          const bool swap_a = ta == Transpose::yes, swap_b = tb == Transpose::yes;
          const int64_t a_rows = swap_a ? size.k : size.m, a_cols = swap_a ? size.m : size.k;
          const int64_t b_rows = swap_b ? size.n : size.k, b_cols = swap_b ? size.k : size.n;
          Draw draw(3);
          const std::vector<float> a = draw.floats(Framed::floats(a_rows, a_cols));
          const std::vector<float> b = draw.floats(Framed::floats(b_rows, b_cols));
          std::vector<float> c = draw.floats(Framed::floats(size.m, size.n));
          if (factors.beta == 0.0f) std::fill(c.begin(), c.end(), kNaN);
          compare_with_cpu(other, [&](Device device) {
            const Framed left(device, a, a_rows, a_cols), right(device, b, b_rows, b_cols);
            const Framed out(device, c, size.m, size.n);
            kernels::gemm(exec_on(device), ta, tb, factors.alpha, left.matrix(), right.matrix(),
                          factors.beta, out.matrix());
            return Outputs{output("gemm", out.storage(), kFloatSums)};
          });
        }
      }
    }
  }
}

namespace {

// While it lives, the device rounds the factors of products.
class Rounding {
 public:
  Rounding(Device device, ProductPrecision precision) : device_(device) {
    set_product_precision(device, precision);
  }
  ~Rounding() { set_product_precision(device_, ProductPrecision::fp32); }
  Rounding(const Rounding&) = delete;
  Rounding& operator=(const Rounding&) = delete;

 private:
  Device device_;
};

}  // namespace

void compare_rounded_gemm(Device other) {
  constexpr int64_t kRows = 128, kCols = 192, kDepth = 96;
  Draw draw(16);
  const std::vector<float> a = draw.floats(kRows * kDepth), b = draw.floats(kDepth * kCols);
  const auto product = [&](Device device, Tolerance tolerance) {
    const Tensor left = on(device, a, {kRows, kDepth}), right = on(device, b, {kDepth, kCols});
    const Tensor out = on(device, std::vector<float>(kRows * kCols), {kRows, kCols});
    kernels::gemm(exec_on(device), Transpose::no, Transpose::no, 1.0f, left.matrix(),
                  right.matrix(), 0.0f, out.matrix());
    return Outputs{output("gemm", out, tolerance)};
  };
  const Outputs exact = product(other, kExact);
  const auto compare = [&](ProductPrecision precision, double unit) {
    const Rounding rounding(other, precision);
    compare_with_cpu(other, [&](Device device) { return product(device, {0.0, 4 * unit}); });
    if (other != kCpu) CHECK_FALSE(same_bits(product(other, kExact), exact));
  };
  if (other == kCpu) {
    CHECK_THROWS_AS(compare(ProductPrecision::tf32, 0), InvalidArgument);
    CHECK_THROWS_AS(compare(ProductPrecision::bf16, 0), InvalidArgument);
    return;
  }
  // Tensor cores cut TF32 off.
  compare(ProductPrecision::tf32, 0x1p-10);
  compare(ProductPrecision::bf16, 0x1p-8);
  CHECK(same_bits(product(other, kExact), exact));
}

void compare_row_access(Device other) {
  constexpr int64_t kTableRows = 50;
  for (const int64_t dim : kDims) {
    for (const int64_t count : {0, 1, 33}) {
      CAPTURE(dim);
      CAPTURE(count);
      Draw draw(4);
      const std::vector<float> table = draw.floats(Framed::floats(kTableRows, dim));
      const std::vector<float> rows = draw.floats(Framed::floats(count, dim));
      const std::vector<int32_t> with_repeats = draw.integers(count, 0, 5);
      std::vector<int32_t> distinct = draw.ids(count, kTableRows);
      std::reverse(distinct.begin(), distinct.end());
      for (size_t i = 2; i < distinct.size(); i += 5) distinct[i] = -1;
      compare_with_cpu(other, [&](Device device) {
        const Exec exec = exec_on(device);
        Outputs outputs;
        for (const int32_t padding_id : {-1, 2}) {
          const Framed out(device, rows, count, dim);
          kernels::gather_rows(exec, Framed(device, table, kTableRows, dim).matrix(),
                               on(device, with_repeats).data<int32_t>(), padding_id, out.matrix());
          outputs.push_back(output("gather_rows", out.storage()));
        }
        const Framed target(device, table, kTableRows, dim);
        kernels::scatter_add_rows(exec, Framed(device, rows, count, dim).matrix(),
                                  on(device, distinct).data<int32_t>(), -0.7f, target.matrix());
        outputs.push_back(output("scatter_add_rows", target.storage(), kOneRounding));
        return outputs;
      });
    }
  }
}

void compare_id_searches(Device other) {
  for (const int64_t count : kCounts) {
    CAPTURE(count);
    Draw draw(5);
    const std::vector<int32_t> ids = draw.integers(count, 0, 4);
    std::vector<int32_t> increasing(static_cast<size_t>(count));
    for (size_t i = 0; i < increasing.size(); ++i) increasing[i] = static_cast<int32_t>(3 * i);
    compare_with_cpu(other, [&](Device device) {
      const Exec exec = exec_on(device);
      Outputs outputs;
      const auto add = [&](const char* name, int64_t value) {
        outputs.push_back(output(name, static_cast<double>(value)));
      };
      const Tensor array = on(device, ids);
      const int32_t* const data = array.data<int32_t>();
      for (const int32_t id : {-1, 0, 3, 4}) {
        const int64_t found = kernels::count_id(exec, data, count, id);
        add("count_id", found);
        const Tensor others = on(device, std::vector<int32_t>(static_cast<size_t>(count - found)));
        const Tensor places = others.clone({Category::data, "places"});
        kernels::copy_other_ids(exec, data, count, id, others.data<int32_t>(),
                                places.data<int32_t>());
        outputs.push_back(output("copy_other_ids, ids", others));
        outputs.push_back(output("copy_other_ids, places", places));
      }
      add("find_out_of_range, none", kernels::find_out_of_range(exec, data, count, 4));
      add("find_out_of_range, from the start", kernels::find_out_of_range(exec, data, count, 0));
      const Tensor sorted = on(device, increasing);
      add("find_out_of_range, late",
          kernels::find_out_of_range(exec, sorted.data<int32_t>(), count, 3 * (count - 1)));
      add("find_not_increasing", kernels::find_not_increasing(exec, data, count));
      add("find_not_increasing, none",
          kernels::find_not_increasing(exec, sorted.data<int32_t>(), count));
      if (count > 2) {
        std::vector<int32_t> spoilt = increasing;
        spoilt[spoilt.size() - 2] = -1;
        const Tensor array2 = on(device, spoilt);
        const int32_t* const late = array2.data<int32_t>();
        add("find_out_of_range, -1", kernels::find_out_of_range(exec, late, count, 3 * count));
        add("find_out_of_range, from -1 on",
            kernels::find_out_of_range(exec, late, count, 3 * count, -1));
        add("find_not_increasing, late", kernels::find_not_increasing(exec, late, count));
      }
      return outputs;
    });
  }
}

namespace {

// The groups of real keys. What may stand behind them on CUDA is checked here, since the CPU has
// nothing to compare it with.
struct HostGroups {
  std::vector<int32_t> keys, begin, order;

  HostGroups(Device device, const kernels::Groups& groups, int64_t items, const Tensor& all_keys,
             const Tensor& all_begin, const Tensor& all_order)
      : keys(all_keys.to_vector<int32_t>()),
        begin(all_begin.to_vector<int32_t>()),
        order(all_order.to_vector<int32_t>()) {
    CHECK(groups.keys == all_keys.data<int32_t>());
    CHECK(groups.begin == all_begin.data<int32_t>());
    CHECK(groups.order == all_order.data<int32_t>());
    if (device == kCuda) CHECK(groups.count == items);
    keys.resize(static_cast<size_t>(groups.count));
    begin.resize(static_cast<size_t>(groups.count) + 1);
    CHECK(begin.back() == items);
    CHECK(std::is_sorted(begin.begin(), begin.end()));
    const auto behind = std::find(keys.begin(), keys.end(), -1);
    CHECK(std::all_of(behind, keys.end(), [](int32_t key) { return key == -1; }));
    keys.erase(behind, keys.end());
    begin.resize(keys.size() + 1);
    std::vector<int32_t> sorted = order, every_item(static_cast<size_t>(items));
    std::sort(sorted.begin(), sorted.end());
    std::iota(every_item.begin(), every_item.end(), 0);
    CHECK(sorted == every_item);
    order.resize(static_cast<size_t>(begin.back()));
  }
  int64_t count() const { return static_cast<int64_t>(keys.size()); }
};

Output integers(const char* name, const std::vector<int32_t>& values) {
  return {name, {values.begin(), values.end()}, kExact};
}

// Items with a key below 0 are the CPU's to leave out.
Outputs group_and_sum(Device device, const std::vector<int32_t>& item_keys, int64_t key_limit,
                      const std::vector<float>& values, int64_t dim) {
  const Exec exec = exec_on(device);
  std::vector<int32_t> grouped, places;
  for (size_t i = 0; i < item_keys.size(); ++i) {
    if (device == kCpu && item_keys[i] < 0) continue;
    grouped.push_back(item_keys[i]);
    places.push_back(static_cast<int32_t>(i));
  }
  const auto items = static_cast<int64_t>(grouped.size());
  const auto unset = [&](int64_t count) {
    return on(device, std::vector<int32_t>(static_cast<size_t>(count), -99));
  };
  const Tensor key_tensor = on(device, grouped);
  const Tensor keys = unset(items), begin = unset(items + 1), order = unset(items);
  const kernels::Groups groups =
      kernels::group_by_key(exec, key_tensor.data<int32_t>(), items, key_limit,
                            keys.data<int32_t>(), begin.data<int32_t>(), order.data<int32_t>());
  HostGroups host(device, groups, items, keys, begin, order);

  std::vector<float> grouped_values;
  for (const int32_t place : places) {
    const auto row = values.begin() + place * dim;
    grouped_values.insert(grouped_values.end(), row, row + dim);
  }
  const Tensor value_tensor = on(device, grouped_values, {items, dim});
  const Tensor sums = Tensor::full({groups.count, dim}, kNaN, {Category::data, "sums"}, device);
  kernels::sum_groups(exec, groups, value_tensor.matrix(), sums.matrix());
  const Tensor rest = sums.rows(host.count(), groups.count - host.count());
  CHECK(rest.to_vector<float>() == std::vector<float>(static_cast<size_t>(rest.numel())));

  for (int32_t& item : host.order) item = places[static_cast<size_t>(item)];
  return {integers("keys", host.keys), integers("begin", host.begin), integers("order", host.order),
          output("sum_groups", sums.rows(0, host.count()))};
}

}  // namespace

void compare_groups(Device other) {
  constexpr int64_t kLargestLimit = int64_t{1} << 31;
  for (const int64_t items : {0, 1, 33, 1500, 70001}) {
    for (const int64_t key_limit : {int64_t{1}, int64_t{7}, int64_t{100000}, kLargestLimit}) {
      for (const int64_t low : {0, -2}) {
        CAPTURE(items);
        CAPTURE(key_limit);
        CAPTURE(low);
        const int64_t dim = items > 2000 ? 1 : 7;
        Draw draw(6);
        const std::vector<int32_t> keys = draw.integers(items, low, key_limit);
        const std::vector<float> values = draw.floats(items * dim);
        compare_with_cpu(other, [&](Device device) {
          return group_and_sum(device, keys, key_limit, values, dim);
        });
      }
    }
  }
  for (const int64_t dim : {1, 33, 300}) {
    CAPTURE(dim);
    Draw draw(7);
    const std::vector<float> values = draw.floats(40 * dim);
    const std::vector<int32_t> keys = draw.integers(40, -1, 9);
    compare_with_cpu(other,
                     [&](Device device) { return group_and_sum(device, keys, 9, values, dim); });
  }
  // No item has a key, and all have the same.
  for (const int32_t key : {-1, 5}) {
    CAPTURE(key);
    const std::vector<int32_t> keys(100, key);
    const std::vector<float> values = Draw(8).floats(300);
    compare_with_cpu(other,
                     [&](Device device) { return group_and_sum(device, keys, 6, values, 3); });
  }
}

void compare_reductions(Device other) {
  for (const int64_t count : {0, 1, 7, 4095, 4097, 300001}) {
    CAPTURE(count);
    const std::vector<float> values = Draw(9).floats(count, 0.1f, 2.0f);
    compare_with_cpu(other, [&](Device device) {
      const Exec exec = exec_on(device);
      const Tensor in = on(device, values);
      const float* const data = in.data<float>();
      const Tensor scaled = on<float>(device, {kNaN});
      kernels::scaled_sum(exec, data, count, -0.37, scaled.data<float>());
      // A double, in the bits of an integer: tensors have no such type.
      const Tensor total = on<int64_t>(device, {std::bit_cast<int64_t>(0.5)});
      for (int i = 0; i < 2; ++i) {
        kernels::add_sum_of_squares(exec, data, count, static_cast<double*>(total.raw()));
      }
      return Outputs{
          output("sum", kernels::sum(exec, data, count), kDoubleSums),
          output("sum_of_squares", kernels::sum_of_squares(exec, data, count), kDoubleSums),
          output("scaled_sum", scaled, kOneRounding),
          output("add_sum_of_squares", std::bit_cast<double>(total.to_vector<int64_t>()[0]),
                 kDoubleSums)};
    });
  }
  for (const double squares : {0.0, 0.25, 16.0, 1e300, static_cast<double>(INFINITY)}) {
    CAPTURE(squares);
    compare_with_cpu(other, [&](Device device) {
      const Tensor total = on<int64_t>(device, {std::bit_cast<int64_t>(squares)});
      const Tensor results = on<float>(device, {kNaN, kNaN});
      kernels::clip_factor(exec_on(device), static_cast<const double*>(total.raw()), 2.0,
                           results.data<float>(), results.data<float>() + 1);
      return Outputs{output("clip_factor", results, kOneRounding)};
    });
  }
  for (const int64_t rows : {0, 1, 127, 129, 1000}) {
    for (const int64_t dim : kDims) {
      CAPTURE(rows);
      CAPTURE(dim);
      Draw draw(10);
      const std::vector<float> values = draw.floats(Framed::floats(rows, dim));
      const std::vector<float> start = draw.floats(dim);
      compare_with_cpu(other, [&](Device device) {
        const Framed in(device, values, rows, dim);
        const Tensor out = on(device, start);
        kernels::add_column_sums(exec_on(device), in.matrix(), out.data<float>());
        return Outputs{output("add_column_sums", out, kOneRounding)};
      });
    }
  }
}

void compare_factors(Device other) {
  for (const int64_t rows : {0, 1, 129, 700}) {
    for (const int64_t dim : {1, 7, 33, 300}) {
      CAPTURE(rows);
      CAPTURE(dim);
      Draw draw(31);
      const std::vector<float> gradients = draw.floats(Framed::floats(rows, dim));
      const std::vector<float> row_covers = draw.floats(2 * rows + 1, 0.0f, 0.5f);
      const std::vector<float> column_covers = draw.floats(dim, 0.0f, 0.5f);
      std::vector<int32_t> ids = draw.ids(rows, 2 * rows + 1);
      for (size_t i = 2; i < ids.size(); i += 5) ids[i] = -1;
      if (ids.empty()) ids = {0};
      compare_with_cpu(other, [&](Device device) {
        const Exec exec = exec_on(device);
        const Framed gradient(device, gradients, rows, dim);
        const Tensor id_tensor = on(device, ids), covers = on(device, row_covers),
                     columns = on(device, column_covers);
        const int32_t* const id_data = id_tensor.data<int32_t>();
        const kernels::ConstMatrix g = gradient.matrix();
        const auto vector = [&](int64_t count) {
          return on(device, std::vector<float>(static_cast<size_t>(count), 0.25f), {count});
        };
        Outputs outputs;
        const auto add = [&](const char* name, const Tensor& tensor) {
          outputs.push_back(output(name, tensor, kOneRounding));
        };
        for (const bool squared : {false, true}) {
          const Tensor by_row = vector(rows), by_column = vector(dim);
          kernels::row_sums(exec, id_data, g, squared, by_row.data<float>());
          kernels::column_sums(exec, id_data, g, squared, by_column.data<float>());
          add("row_sums", by_row);
          add("column_sums", by_column);
        }
        const kernels::Covers cover{covers.data<float>(), columns.data<float>(), 0.9f, 0.5f};
        const Tensor by_row = vector(rows), by_column = vector(dim), state = vector(2 * rows + 1);
        kernels::row_maxima(exec, id_data, g, cover, by_row.data<float>());
        kernels::column_maxima(exec, id_data, g, cover, by_column.data<float>());
        add("row_maxima", by_row);
        add("column_maxima", by_column);
        kernels::advance_entries(exec, id_data, rows, {0.9f, 0.1f}, by_row.data<float>(),
                                 state.data<float>());
        add("advance_entries", state);
        kernels::raise_entries(exec, columns.data<float>(), dim, by_column.data<float>());
        add("raise_entries", by_column);
        const Tensor totals = vector(2), shape = vector(dim);
        kernels::sum_of_entries(exec, id_data, rows, covers.data<float>(), totals.data<float>());
        kernels::sum_of_entries(exec, nullptr, dim, columns.data<float>(),
                                totals.data<float>() + 1);
        kernels::over_mean(exec, columns.data<float>(), totals.data<float>() + 1, dim,
                           shape.data<float>());
        kernels::advance_columns(exec,
                                 {0.9f, 0.01f, totals.data<float>(), totals.data<float>() + 1},
                                 0.1f, by_column.data<float>(), dim, shape.data<float>());
        add("sum_of_entries", totals);
        add("advance_columns over_mean", shape);
        const Tensor products = vector(rows), sums = vector(dim);
        kernels::row_products(exec, id_data, g, true, columns.data<float>(),
                              products.data<float>());
        kernels::column_products(exec, id_data, g, false, products.data<float>(),
                                 sums.data<float>());
        add("row_products", products);
        add("column_products", sums);
        const kernels::ScratchArray<double> squares(exec, 2, "squares");
        kernels::sum_of_products(exec, id_data, rows, covers.data<float>(), products.data<float>(),
                                 squares.data());
        kernels::sum_of_products(exec, nullptr, dim, columns.data<float>(), columns.data<float>(),
                                 squares.data() + 1);
        const kernels::Length length{squares.data(), squares.data() + 1};
        kernels::combine_columns(exec, {squares.data(), squares.data() + 1, length}, 0.5f,
                                 columns.data<float>(), dim, sums.data<float>());
        add("sum_of_products combine_columns", sums);
        kernels::over_length(exec, length, dim, sums.data<float>());
        kernels::multiply_by(exec, squares.data() + 1, dim, sums.data<float>());
        add("over_length multiply_by", sums);
        const Tensor added = vector(rows);
        kernels::add_to_entries(exec, id_data, rows, covers.data<float>(), 0.5f,
                                products.data<float>(), added.data<float>());
        add("add_to_entries", added);
        const kernels::ColumnAxis axis{1, dim, 1};
        const Tensor largest = vector(dim);
        kernels::spread_minimum(exec, axis, columns.data<float>(), shape.data<float>());
        kernels::axis_maxima(exec, axis, shape.data<float>(), largest.data<float>());
        add("spread_minimum", shape);
        add("axis_maxima", largest);
        return outputs;
      });
    }
  }
}

void compare_random(Device other) {
  constexpr kernels::PhiloxKey kKey{0x1234567890abcdefULL, 0xfedcba0987654321ULL};
  for (const int64_t count : kCounts) {
    CAPTURE(count);
    const std::vector<float> values = Draw(11).normals(count);
    compare_with_cpu(other, [&](Device device) {
      const Exec exec = exec_on(device);
      Outputs outputs;
      const Tensor uniform = on(device, values);
      kernels::fill_uniform(exec, kKey, -1.5f, 2.0f, uniform.data<float>(), count);
      outputs.push_back(output("fill_uniform", uniform, kOneRounding));
      for (const float probability : {0.0f, 0.3f, 0.99f}) {
        const Tensor in = on(device, values);
        const Tensor out = Tensor::full({count}, kNaN, {Category::data, "out"}, device);
        kernels::dropout(exec, kKey, probability, in.data<float>(), out.data<float>(), count);
        outputs.push_back(output("dropout", out));
        kernels::dropout(exec, kKey, probability, in.data<float>(), in.data<float>(), count);
        outputs.push_back(output("dropout in place", in));
      }
      return outputs;
    });
  }
}

void compare_lstm(Device other) {
  for (const int64_t batch : {0, 1, 5, 300}) {
    for (const int64_t units : kDims) {
      CAPTURE(batch);
      CAPTURE(units);
      Draw draw(12);
      const std::vector<float> gates = draw.floats(Framed::floats(batch, 4 * units), -4.0f, 4.0f);
      const std::vector<float> bias1 = draw.floats(4 * units), bias2 = draw.floats(4 * units);
      const int64_t floats = Framed::floats(batch, units);
      const std::vector<float> before = draw.floats(floats), grad_h = draw.floats(floats),
                               grad_c = draw.floats(floats);
      compare_with_cpu(other, [&](Device device) {
        const Exec exec = exec_on(device);
        const auto framed = [&](const std::vector<float>& values) {
          return Framed(device, values, batch, units);
        };
        const Tensor bias_input = on(device, bias1), bias_hidden = on(device, bias2);
        const Framed active(device, gates, batch, 4 * units),
            again(device, gates, batch, 4 * units);
        const Framed c_previous = framed(before), c = framed(grad_c), h = framed(grad_h);
        kernels::lstm_cell_forward(exec, active.matrix(), bias_input.data<float>(),
                                   bias_hidden.data<float>(), c_previous.matrix(), c.matrix(),
                                   h.matrix());
        Outputs outputs{output("gates", active.storage(), kFormula),
                        output("c", c.storage(), kFormula), output("h", h.storage(), kFormula)};
        const Framed in_place = framed(before);
        kernels::lstm_cell_forward(exec, again.matrix(), bias_input.data<float>(),
                                   bias_hidden.data<float>(), in_place.matrix(), in_place.matrix(),
                                   h.matrix());
        outputs.push_back(output("c in place", in_place.storage(), kFormula));
        const Framed c_gradient = framed(grad_c);
        kernels::lstm_cell_backward(exec, active.matrix(), c_previous.matrix(), c.matrix(),
                                    framed(grad_h).matrix(), c_gradient.matrix());
        // 1 - y^2 loses what y has already lost.
        constexpr Tolerance kGradient{0.0, 5e-6};
        outputs.push_back(output("gradient of gates", active.storage(), kGradient));
        outputs.push_back(output("gradient of c", c_gradient.storage(), kGradient));
        return outputs;
      });
    }
  }
}

namespace {

void compare_layers(Device other, Tolerance tolerance) {
  using kernels::LstmLayerShape;
  for (const LstmLayerShape shape :
       {LstmLayerShape{1, 1, 1, 1, 0}, {5, 3, 7, 9, 0}, {4, 2, 33, 16, 5}, {35, 20, 64, 64, 0}}) {
    CAPTURE(shape.steps);
    CAPTURE(shape.hidden);
    CAPTURE(shape.projection);
    Draw draw(15);
    const int64_t gates = 4 * shape.hidden, positions = shape.steps * shape.batch;
    const auto small = [&](int64_t count) { return draw.floats(count, -0.4f, 0.4f); };
    const std::vector<float> values[] = {small(gates * shape.input), small(gates * shape.output()),
                                         small(gates), small(gates),
                                         small(shape.projection * shape.hidden)};
    const std::vector<float> xs = draw.floats(positions * shape.input),
                             hs = draw.floats(shape.batch * shape.output()),
                             cs = draw.floats(shape.batch * shape.hidden),
                             gradients_of_y = draw.floats(positions * shape.output());
    compare_with_cpu(other, [&](Device device) {
      const Exec exec = exec_on(device);
      const auto unset = [&](int64_t count) {
        return Tensor::full({count}, kNaN, {Category::data, "out"}, device);
      };
      std::vector<Tensor> weights, grads;
      for (const std::vector<float>& weight : values) {
        weights.push_back(on(device, weight));
        grads.push_back(unset(weights.back().numel()));
      }
      const auto data = [](const std::vector<Tensor>& tensors, size_t i) {
        return tensors[i].data<float>();
      };
      const kernels::LstmLayerArrays<const float> arrays{
          data(weights, 0), data(weights, 1), data(weights, 2), data(weights, 3), data(weights, 4)};
      const kernels::LstmLayerArrays<float> gradients{
          data(grads, 0), data(grads, 1), data(grads, 2), data(grads, 3), data(grads, 4)};
      const Tensor x = on(device, xs), h = on(device, hs), c = on(device, cs),
                   grad_y = on(device, gradients_of_y);
      const Tensor y = unset(grad_y.numel()), h_next = unset(h.numel()), c_next = unset(c.numel()),
                   grad_x = unset(x.numel());
      const auto forward = [&](float* reserve) {
        if (device == kCpu) {
          lstm_reference_forward(shape, arrays, x.data<float>(), h.data<float>(), c.data<float>(),
                                 y.data<float>(), h_next.data<float>(), c_next.data<float>(),
                                 reserve);
        } else {
          kernels::lstm_layer_forward(exec, shape, arrays, x.data<float>(), h.data<float>(),
                                      c.data<float>(), y.data<float>(), h_next.data<float>(),
                                      c_next.data<float>(), reserve);
        }
      };
      const int64_t reserve_floats = device == kCpu
                                         ? lstm_reference_reserve_floats(shape)
                                         : (kernels::lstm_layer_reserve_bytes(exec, shape) + 3) / 4;
      const Tensor reserve = unset(reserve_floats);
      Outputs outputs;
      const auto add = [&](const char* name, const Tensor& tensor) {
        outputs.push_back(output(name, tensor, tolerance));
      };
      // Without a backward there is no reserve; the reference always writes it.
      for (const bool training : {false, true}) {
        forward(training || device == kCpu ? reserve.data<float>() : nullptr);
        add("y", y);
        add("h", h_next);
        add("c", c_next);
      }
      const auto backward = [&](float* grad_x_data) {
        if (device == kCpu) {
          lstm_reference_backward(shape, arrays, x.data<float>(), h.data<float>(), c.data<float>(),
                                  y.data<float>(), grad_y.data<float>(), reserve.data<float>(),
                                  grad_x_data, gradients);
        } else {
          kernels::lstm_layer_backward(exec, shape, arrays, x.data<float>(), h.data<float>(),
                                       c.data<float>(), y.data<float>(), grad_y.data<float>(),
                                       reserve.data<float>(), grad_x_data, gradients);
        }
      };
      backward(grad_x.data<float>());
      add("gradient of x", grad_x);
      for (const Tensor& gradient : grads) add("gradient of weights", gradient);
      // Once more, without the gradient of x.
      forward(reserve.data<float>());
      backward(nullptr);
      for (const Tensor& gradient : grads) add("gradient of weights alone", gradient);
      return outputs;
    });
  }
}

}  // namespace

void compare_lstm_layer(Device other) {
  compare_layers(other, {0.0, 2e-5});
  if (other == kCpu) return;
  const Rounding rounding(other, ProductPrecision::tf32);
  compare_layers(other, {0.0, 1e-2});
}

namespace {

struct SoftmaxCase {
  int64_t tokens;
  int64_t classes;
  int64_t chunk;
  bool with_bias;
};

// Walks the classes as layers do: all chunks forward, then the gradient of each, once from what
// forward left and once from the logits as they came.
Outputs walk_softmax(Device device, const SoftmaxCase& size, const std::vector<float>& logits,
                     const std::vector<float>& bias, const std::vector<int32_t>& targets) {
  constexpr Tolerance kSoftmax{1e-5, 2e-6};
  const Exec exec = exec_on(device);
  const int64_t tokens = size.tokens;
  const Tensor table = on(device, logits, {tokens, size.classes});
  const Tensor untouched = table.clone({Category::data, "logits"});
  const Tensor biases = on(device, bias), target_ids = on(device, targets);
  const auto floats = [&] {
    return Tensor::full({tokens}, kNaN, {Category::data, "state"}, device);
  };
  const Tensor max = floats(), sum = floats(), target_logit = floats(), losses = floats();
  const kernels::OnlineSoftmax state{max.data<float>(), sum.data<float>(),
                                     target_logit.data<float>()};
  const auto for_each_chunk = [&](const auto& call) {
    for (int64_t begin = 0; begin < size.classes; begin += size.chunk) {
      const int64_t count = std::min(size.chunk, size.classes - begin);
      call(begin, count, size.with_bias ? biases.data<float>() + begin : nullptr);
    }
  };
  const auto* const ids = target_ids.data<int32_t>();
  kernels::online_softmax_begin(exec, state, tokens);
  for_each_chunk([&](int64_t begin, int64_t count, const float* chunk_bias) {
    kernels::online_softmax_update(exec, table.matrix().columns(begin, count), chunk_bias, begin,
                                   ids, state);
  });
  kernels::online_softmax_losses(exec, state, ids, tokens, losses.data<float>());
  Outputs outputs{output("logits with bias", table), output("max", max),
                  output("sum", sum, kSoftmax), output("target logit", target_logit),
                  output("losses", losses, kSoftmax)};
  for_each_chunk([&](int64_t begin, int64_t count, const float* chunk_bias) {
    kernels::softmax_cross_entropy_gradient(exec, table.matrix().columns(begin, count), nullptr,
                                            begin, ids, state, 0.25f);
    kernels::softmax_cross_entropy_gradient(exec, untouched.matrix().columns(begin, count),
                                            chunk_bias, begin, ids, state, 0.25f);
  });
  outputs.push_back(output("gradient", table, kSoftmax));
  outputs.push_back(output("gradient from logits without bias", untouched, kSoftmax));
  return outputs;
}

}  // namespace

void compare_softmax(Device other) {
  for (const bool with_bias : {false, true}) {
    for (const SoftmaxCase size : {SoftmaxCase{1, 1, 1, with_bias},
                                   {5, 33, 7, with_bias},
                                   {7, 33, 33, with_bias},
                                   {3, 9001, 5000, with_bias},
                                   {300, 40, 16, with_bias},
                                   {0, 10, 5, with_bias}}) {
      CAPTURE(size.tokens);
      CAPTURE(size.classes);
      CAPTURE(with_bias);
      Draw draw(13);
      const std::vector<float> logits = draw.floats(size.tokens * size.classes, -20.0f, 20.0f);
      const std::vector<float> bias = draw.floats(size.classes);
      const std::vector<int32_t> targets =
          draw.integers(size.tokens, kernels::kIgnoredTarget, size.classes);
      compare_with_cpu(
          other, [&](Device device) { return walk_softmax(device, size, logits, bias, targets); });
    }
  }
}

void compare_candidate_softmax(Device other) {
  constexpr Tolerance kSoftmax{1e-5, 2e-6};
  struct Size {
    int64_t tokens, candidates;
  };
  for (const Size size : {Size{1, 1}, {7, 33}, {300, 40}, {3, 5000}, {0, 9}}) {
    CAPTURE(size.tokens);
    CAPTURE(size.candidates);
    Draw draw(17);
    const std::vector<float> values = draw.floats(size.tokens * size.candidates, -20.0f, 20.0f);
    const std::vector<float> raw_bias = draw.floats(size.candidates);
    std::vector<float> masked_bias = raw_bias;
    for (size_t c = 0; c < masked_bias.size(); c += 3) masked_bias[c] = -INFINITY;
    const std::vector<float> target_offsets = draw.floats(size.tokens, -3.0f, 0.0f);
    const std::vector<int32_t> target_places =
        draw.integers(size.tokens, kernels::kIgnoredTarget, size.candidates);
    compare_with_cpu(other, [&](Device device) {
      const Exec exec = exec_on(device);
      const Tensor logits = on(device, values, {size.tokens, size.candidates});
      const Tensor bias = on(device, raw_bias), masked = on(device, masked_bias);
      const Tensor offsets = on(device, target_offsets), targets = on(device, target_places);
      const auto floats = [&] {
        return Tensor::full({size.tokens}, kNaN, {Category::data, "state"}, device);
      };
      const Tensor max = floats(), sum = floats(), target_logit = floats(), losses = floats();
      const kernels::OnlineSoftmax state{max.data<float>(), sum.data<float>(),
                                         target_logit.data<float>()};
      const auto* const places = targets.data<int32_t>();
      kernels::online_softmax_begin(exec, state, size.tokens);
      kernels::take_target_logits(exec, logits.matrix(), bias.data<float>(), places,
                                  offsets.data<float>(), state);
      kernels::online_softmax_update(exec, logits.matrix(), masked.data<float>(), size.candidates,
                                     places, state);
      kernels::add_target_logits(exec, places, size.tokens, state);
      kernels::online_softmax_losses(exec, state, places, size.tokens, losses.data<float>());
      Outputs outputs{output("logits", logits), output("sum", sum, kSoftmax),
                      output("target logit", target_logit), output("losses", losses, kSoftmax)};
      kernels::softmax_cross_entropy_gradient(exec, logits.matrix(), nullptr, size.candidates,
                                              places, state, 0.25f);
      kernels::put_target_gradients(exec, logits.matrix(), places, state, 0.25f);
      outputs.push_back(output("gradient", logits, kSoftmax));
      return outputs;
    });
  }
}

namespace {

// Row r has r % 5 entries in different columns, as far as there are columns.
struct DeviceCsr {
  DeviceCsr(Device device, int64_t rows, int64_t cols, Draw& draw) : count(rows) {
    std::vector<int32_t> starts{0}, places;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < std::min(r % 5, cols); ++i) {
        places.push_back(static_cast<int32_t>((r + i) % cols));
      }
      starts.push_back(static_cast<int32_t>(places.size()));
    }
    const auto entries = static_cast<int64_t>(places.size());
    begin = on(device, starts);
    columns = on(device, places);
    values = on(device, draw.floats(entries));
  }
  kernels::CsrMatrix matrix(bool weighted) const {
    return {count, begin.data<int32_t>(), columns.data<int32_t>(),
            weighted ? values.data<float>() : nullptr};
  }
  int64_t count;
  Tensor begin, columns, values;
};

}  // namespace

void compare_csr(Device other) {
  constexpr int64_t kTableRows = 50;
  for (const int64_t rows : {0, 1, 33, 300}) {
    for (const int64_t dim : kDims) {
      CAPTURE(rows);
      CAPTURE(dim);
      Draw draw(21);
      const std::vector<float> table = draw.floats(Framed::floats(kTableRows, dim));
      const std::vector<float> unset = draw.floats(Framed::floats(rows, dim));
      compare_with_cpu(other, [&](Device device) {
        Draw values(22);
        const DeviceCsr a(device, rows, kTableRows, values);
        Outputs outputs;
        for (const bool weighted : {false, true}) {
          const Framed out(device, unset, rows, dim);
          kernels::csr_matmul(exec_on(device), a.matrix(weighted),
                              Framed(device, table, kTableRows, dim).matrix(), out.matrix());
          outputs.push_back(output("csr_matmul", out.storage(), kFloatSums));
        }
        return outputs;
      });
    }
  }
}

void compare_multi_label(Device other) {
  struct Size {
    int64_t tokens, classes;
  };
  for (const Size size : {Size{1, 1}, {7, 33}, {300, 40}, {3, 5000}, {0, 9}}) {
    CAPTURE(size.tokens);
    CAPTURE(size.classes);
    Draw draw(23);
    const std::vector<float> values =
        draw.floats(Framed::floats(size.tokens, size.classes), -10.0f, 10.0f);
    const std::vector<float> all_bias = draw.floats(size.classes);
    compare_with_cpu(other, [&](Device device) {
      const Exec exec = exec_on(device);
      Draw weights(24);
      const DeviceCsr labels(device, size.tokens, size.classes, weights);
      const Tensor bias = on(device, all_bias);
      Outputs outputs;
      for (const bool with_bias : {false, true}) {
        const float* const added = with_bias ? bias.data<float>() : nullptr;
        const Framed logits(device, values, size.tokens, size.classes);
        const Tensor taken = Tensor::full({size.tokens}, kNaN, {Category::data, "taken"}, device);
        const Tensor sums = Tensor::full({size.tokens}, kNaN, {Category::data, "sums"}, device);
        kernels::take_label_logits(exec, logits.matrix(), added, labels.matrix(with_bias),
                                   taken.data<float>());
        kernels::sigmoid_cross_entropy(exec, logits.matrix(), added, 0.25f, sums.data<float>());
        kernels::subtract_labels(exec, labels.matrix(with_bias), 0.25f, logits.matrix());
        outputs.push_back(output("take_label_logits", taken, kFloatSums));
        outputs.push_back(output("sigmoid_cross_entropy", sums, kFloatSums));
        outputs.push_back(output("gradient", logits.storage(), kFormula));
      }
      return outputs;
    });
  }
}

void compare_hashes(Device other) {
  constexpr int kTables = 3, kBits = 5;
  constexpr kernels::WtaShape kWta{kTables, 2, 2};
  // The logarithm of a small probability, which is a difference.
  constexpr Tolerance kCollisions{1e-4, 1e-5};
  for (const int64_t rows : {0, 1, 33, 300}) {
    for (const int64_t dim : {15, 33}) {
      CAPTURE(rows);
      CAPTURE(dim);
      Draw draw(18);
      std::vector<float> values = draw.floats(Framed::floats(rows, dim));
      if (rows > 2) std::fill_n(values.begin(), Framed::floats(1, dim), 0.0f);
      const std::vector<int32_t> bins = draw.integers(kTables * 2 * 4, 0, dim);
      const std::vector<float> token_norms = draw.floats(rows, 0.0f, 2.0f),
                               column_norms = draw.floats(dim, 0.5f, 2.0f);
      const std::vector<int32_t> token_codes = draw.integers(rows * kTables, 0, 4),
                                 row_codes = draw.integers(dim * kTables, 0, 4);
      compare_with_cpu(other, [&](Device device) {
        const Exec exec = exec_on(device);
        const Framed matrix(device, values, rows, dim);
        const auto codes = [&] {
          return on(device, std::vector<int32_t>(static_cast<size_t>(rows * kTables), -7));
        };
        Outputs outputs;
        const Tensor norms = Tensor::full({rows}, kNaN, {Category::data, "norms"}, device);
        kernels::row_norms(exec, matrix.matrix(), norms.data<float>());
        outputs.push_back(output("row_norms", norms, kOneRounding));
        const Tensor signs = codes(), winners = codes();
        kernels::simhash_codes(exec, matrix.matrix().columns(0, kTables * kBits), kTables, kBits,
                               signs.data<int32_t>());
        outputs.push_back(output("simhash_codes", signs));
        kernels::wta_codes(exec, matrix.matrix(), kWta, on(device, bins).data<int32_t>(),
                           winners.data<int32_t>());
        outputs.push_back(output("wta_codes", winners));
        const Framed logits(device, values, rows, dim);
        const Tensor of_tokens = on(device, token_codes), of_rows = on(device, row_codes);
        const Tensor lengths = on(device, token_norms), row_lengths = on(device, column_norms);
        kernels::weigh_collisions(exec, logits.matrix(),
                                  {kTables, 2, of_tokens.data<int32_t>(), of_rows.data<int32_t>(),
                                   lengths.data<float>(), row_lengths.data<float>(), -0.5f});
        outputs.push_back(output("weigh_collisions", logits.storage(), kCollisions));
        return outputs;
      });
    }
  }
}

void compare_sketch_plans(Device other) {
  constexpr uint64_t kSeed = 77;
  for (const int64_t rows : {0, 1, 33, 3000}) {
    for (const int32_t depth : {1, 2, 3}) {
      for (const int64_t width : {1, 9, 1024, 2005}) {
        for (const bool with_ids : {false, true}) {
          CAPTURE(rows);
          CAPTURE(depth);
          CAPTURE(width);
          CAPTURE(with_ids);
          const std::vector<int32_t> ids = Draw(14).ids(rows, 2 * rows);
          std::vector<int32_t> ranks;  // bands from the last row to the first
          for (int64_t r = 2 * rows - 1; r >= 0; --r) ranks.push_back(static_cast<int32_t>(r));
          compare_with_cpu(other, [&](Device device) {
            const auto unset = [&](int64_t count) {
              return on(device, std::vector<int32_t>(static_cast<size_t>(count), -99));
            };
            const Tensor id_tensor = on(device, ids), slots = unset(depth * rows),
                         keys = unset(depth * rows), order = unset(depth * rows),
                         begin = unset(depth * (rows + 1));
            const Tensor rank_tensor = on(device, ranks);
            const bool bands = depth == 2 && rows > 0;
            const kernels::RowHash hash =
                bands ? kernels::RowHash{kSeed, 2 * rows, rank_tensor.data<int32_t>()}
                      : kernels::RowHash{kSeed};
            const kernels::SketchPlan plan = kernels::sketch_plan(
                exec_on(device), hash, depth, width, {},
                with_ids ? id_tensor.data<int32_t>() : nullptr, rows,
                {static_cast<kernels::Slot*>(slots.raw()), keys.data<int32_t>(),
                 order.data<int32_t>(), begin.data<int32_t>()});
            Outputs outputs{output("slots", slots)};
            for (int32_t j = 0; j < depth; ++j) {
              const HostGroups groups(
                  device, plan.groups[static_cast<size_t>(j)], rows, keys.rows(j * rows, rows),
                  begin.rows(j * (rows + 1), rows + 1), order.rows(j * rows, rows));
              outputs.push_back(integers("keys", groups.keys));
              outputs.push_back(integers("begin", groups.begin));
              outputs.push_back(integers("order", groups.order));
            }
            return outputs;
          });
        }
      }
    }
  }
}

}  // namespace sketchgrad::test
