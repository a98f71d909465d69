#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sketchgrad/apps/common/text_reader.h"
#include "sketchgrad/apps/xc/input_settings.h"

// Lines of input files as rows. Concurrent calls of one reader are fine.
namespace sketchgrad::apps::xc {

// What one line says. Its views are into the line; kept from one line to the next, so that memory
// is not asked for anew.
struct Row {
  std::vector<std::string_view> names;  // labels of a TSV file, different ones
  std::vector<int32_t> ids;             // labels of an XC file, different ones, ascending
  std::vector<int32_t> features;        // ascending; of text repeated as often as they stand
  std::vector<float> values;            // of an XC file: one a feature, which are then different
  void clear();
};

// Both return what is wrong with the line, which has no end of line any more; empty: nothing.

// text TAB label [TAB label]...; `text` is a view into the line. Only names are set, the rest is
// empty. Empty labels are none.
std::string parse_tsv(std::string_view line, std::string_view& text, Row& row);
// l1,l2,... f:v f:v ...; names stay empty.
std::string parse_xc(std::string_view line, const InputSettings& settings, Row& row);

// The first line of an XC file: rows, features and classes.
struct XcHeader {
  int64_t rows = 0;
  int64_t features = 0;
  int64_t classes = 0;
};
// Whether the line is one.
bool parse_xc_header(std::string_view line, XcHeader& header);
// Of files that follow each other: the first must begin with one; others may, and then say the same
// but for the rows, which are added. Throws DataError naming file and line.
XcHeader read_xc_header(const std::vector<std::string>& paths);

// Calls f(line, index of the line) for each line of a block of whole lines, without its end, which
// may be CR LF.
template <class Function>
void for_each_line(std::string_view block, Function f) {
  int64_t index = 0;
  for (size_t begin = 0; begin < block.size(); ++index) {
    const size_t end = block.find('\n', begin);
    std::string_view line = block.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    f(line, index);
    begin = end + 1;
  }
}

}  // namespace sketchgrad::apps::xc
