#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cstdint>
#include <new>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "sketchgrad/apps/common/out_of_memory.h"
#include "sketchgrad/apps/common/progress.h"
#include "sketchgrad/apps/common/text_reader.h"
#include "sketchgrad/kernels/tbb_policy.h"

namespace sketchgrad::apps {

// Blocks in one turn.
inline constexpr size_t kTurnBlocks = 8;

inline std::string names_of(const std::vector<std::string>& paths) {
  return fmt::format("{}", fmt::join(paths, ", "));
}

// f() of what reads texts, whose blocks and words are in memory that the allocator does not know.
template <class Function>
auto reading_texts(const std::vector<std::string>& paths, Function f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    throw_out_of_memory(fmt::format("[text] reading {}", names_of(paths)));
  }
}

// One reading of texts: work(block, result) for each block, many at a time, then
// use(result) or use(result, place of its block) for each result, one after the other in the order
// of the text. Results do not depend on the number of threads.
//
// It goes in turns. In each, the blocks of a turn are read, those of the turn before are worked
// on, and the results of the one before that are used, all at the same time. So no more than
// 3 kTurnBlocks blocks are held, with their results (which may refer to them), however long the
// text is. `label` is the progress bar's.
template <class Result, class Work, class Use>
void for_each_block(TextsReader& texts, const std::string& label, const Work& work,
                    const Use& use) {
  struct Turn {
    std::array<std::string, kTurnBlocks> blocks;
    std::array<TextPlace, kTurnBlocks> places;
    std::array<Result, kTurnBlocks> results;
    size_t count = 0;
  };
  // Pointers change places, because short strings would move their bytes.
  std::array<Turn, 3> turns;
  Turn* read = &turns[0];
  Turn* worked = &turns[1];
  Turn* used = &turns[2];
  const auto fill = [&] {
    read->count = 0;
    while (read->count < kTurnBlocks && texts.next(read->blocks[read->count])) {
      read->places[read->count++] = texts.place();
    }
  };
  const auto use_all = [&] {
    for (size_t i = 0; i < used->count; ++i) {
      if constexpr (std::is_invocable_v<const Use&, Result&, const TextPlace&>) {
        use(used->results[i], used->places[i]);
      } else {
        use(used->results[i]);
      }
    }
  };
  constexpr int64_t kMiB = int64_t{1} << 20;
  Progress progress(label, texts.total_bytes() / kMiB);
  do {
    kernels::TbbPolicy::for_each_block(kTurnBlocks + 2, [&](int64_t task) {
      if (task == 0) return fill();
      if (task == 1) return use_all();
      const auto i = static_cast<size_t>(task - 2);
      if (i < worked->count) work(std::as_const(worked->blocks[i]), worked->results[i]);
    });
    progress.update(texts.packed_bytes() / kMiB, "MiB");
    std::swap(used, worked);
    std::swap(worked, read);
  } while (worked->count > 0 || used->count > 0);
}

}  // namespace sketchgrad::apps
