#include "sketchgrad/framework/checkpoint.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "sketchgrad/tests/support/file_size_bound.h"

namespace sketchgrad {
namespace {

namespace fs = std::filesystem;

const Purpose kTest{Category::data, "test"};

class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "sketchgrad_checkpoint_XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::vector<std::string> list() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

 private:
  fs::path path_;
};

std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

std::string with_header(const std::string& header, const std::string& data = "") {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

StateDict example() {
  StateDict state;
  state.tensors["weight"] =
      Tensor::from<float>({1.5f, -2.0f, 0.0f, -0.0f, 1e-40f, 3e38f}, {2, 3}, kTest);
  state.tensors["ids"] = Tensor::from<int32_t>({1, -2, 2147483647}, {3}, kTest);
  state.tensors["long"] =
      Tensor::from<int64_t>({std::numeric_limits<int64_t>::min(), 5}, {2, 1}, kTest);
  state.tensors["none"] = Tensor::zeros({0, 4}, kTest);
  state.tensors["scalar"] = Tensor::full({}, 7.0f, kTest);
  state.set("text", "quotes \" and \n and \xc3\xa9");
  state.set_integer("steps", -12);
  state.set_unsigned("seed", std::numeric_limits<uint64_t>::max());
  state.set_real("rate", 0.1);
  return state;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), static_cast<size_t>(a.bytes())) == 0);
}

bool same(const StateDict& a, const StateDict& b) {
  if (a.metadata != b.metadata || a.tensors.size() != b.tensors.size()) return false;
  for (const auto& [name, tensor] : a.tensors) {
    const auto other = b.tensors.find(name);
    if (other == b.tensors.end() || !same(tensor, other->second)) return false;
  }
  return true;
}

TEST_CASE("a state comes back as it was, bit for bit") {
  const Folder folder;
  const std::string path = folder.file("state.safetensors");
  const StateDict state = example();
  save_safetensors(path, state);
  const StateDict loaded = load_safetensors(path);
  CHECK(same(state, loaded));
  CHECK(loaded.source == path);
  CHECK(loaded.integer("steps") == -12);
  CHECK(loaded.unsigned_integer("seed") == std::numeric_limits<uint64_t>::max());
  CHECK(loaded.real("rate") == 0.1);
  CHECK(loaded.text("text") == state.text("text"));
  CHECK(folder.list() == std::vector<std::string>{"state.safetensors"});

  save_safetensors(path, loaded);
  save_safetensors(folder.file("again"), state);
  CHECK(read_bytes(path) == read_bytes(folder.file("again")));
}

TEST_CASE("an empty state") {
  const Folder folder;
  save_safetensors(folder.file("empty"), {});
  const StateDict loaded = load_safetensors(folder.file("empty"));
  CHECK(loaded.tensors.empty());
  CHECK(loaded.metadata.empty());
}

TEST_CASE("tensors of a file are parameters under their names") {
  const Folder folder;
  save_safetensors(folder.file("state"), example());
  const int64_t before = allocator().current()[Category::parameter];
  const StateDict loaded = load_safetensors(folder.file("state"));
  CHECK(allocator().current()[Category::parameter] - before == 6 * 4 + 3 * 4 + 2 * 8 + 4);
}

TEST_CASE("tensors that nobody wants are not read, though checked") {
  const Folder folder;
  save_safetensors(folder.file("state"), example());
  const auto is_weight = [](const std::string& name) { return name == "weight"; };
  const int64_t before = allocator().current()[Category::parameter];
  const StateDict loaded = load_safetensors(folder.file("state"), is_weight);
  CHECK(allocator().current()[Category::parameter] - before == 6 * 4);
  CHECK(loaded.tensors.size() == 1);
  CHECK(loaded.tensors.at("weight").to_vector<float>() ==
        example().tensors.at("weight").to_vector<float>());
  CHECK(loaded.metadata == example().metadata);
  std::string bytes = read_bytes(folder.file("state"));
  bytes.pop_back();
  write_bytes(folder.file("short"), bytes);
  CHECK_THROWS_AS(load_safetensors(folder.file("short"), is_weight), DataError);
}

TEST_CASE("the data begins at a multiple of 8 and wide types come first") {
  const Folder folder;
  save_safetensors(folder.file("state"), example());
  const std::string bytes = read_bytes(folder.file("state"));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  const std::string header = bytes.substr(8, length);
  CHECK(header.front() == '{');
  CHECK(header.find(R"("long":{"data_offsets":[0,16],"dtype":"I64","shape":[2,1]})") !=
        std::string::npos);
}

TEST_CASE("a tensor can be mapped, and then takes no memory of ours") {
  const Folder folder;
  const std::string path = folder.file("state");
  save_safetensors(path, example());
  const int64_t before = allocator().current().total;
  const MappedTensor ids = map_safetensors(path, "ids");
  const MappedTensor none = map_safetensors(path, "none");
  CHECK(allocator().current().total == before);
  fs::remove(path);
  CHECK(ids.dtype == DType::int32);
  CHECK(ids.shape == Shape{3});
  const auto* values = static_cast<const int32_t*>(ids.data.get());
  CHECK(std::vector<int32_t>(values, values + 3) == std::vector<int32_t>{1, -2, 2147483647});
  CHECK(none.shape == Shape{0, 4});
}

TEST_CASE("what cannot be mapped is DataError") {
  const Folder folder;
  const std::string path = folder.file("state");
  save_safetensors(path, example());
  CHECK_THROWS_WITH_AS(map_safetensors(path, "other"), doctest::Contains("other"), DataError);
  CHECK_THROWS_AS(map_safetensors(folder.file("absent"), "ids"), DataError);
  write_bytes(path, read_bytes(path).substr(0, read_bytes(path).size() - 1));
  CHECK_THROWS_AS(map_safetensors(path, "ids"), DataError);
  write_bytes(path,
              with_header(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} )", "1234"));
  CHECK_THROWS_WITH_AS(map_safetensors(path, "t"), doctest::Contains("aligned"), DataError);
}

TEST_CASE("numbers as text are exact") {
  StateDict state;
  for (const double value :
       {0.0, -0.0, 1.0, -1.5, 0.1, 1e-310, 1.7976931348623157e308, -1e-5, 123456789.123}) {
    state.set_real("x", value);
    CHECK(state.real("x") == value);
    CHECK(std::signbit(state.real("x")) == std::signbit(value));
  }
  state.set_real("x", std::numeric_limits<double>::infinity());
  CHECK(std::isinf(state.real("x")));
  state.set_real("x", std::numeric_limits<double>::quiet_NaN());
  CHECK(std::isnan(state.real("x")));
}

TEST_CASE("missing or malformed values are named") {
  StateDict state = example();
  state.source = "model.safetensors";
  CHECK_THROWS_WITH_AS(state.text("absent"), "model.safetensors: \"absent\" is missing", DataError);
  CHECK_THROWS_AS(state.integer("text"), DataError);
  for (const char* text : {"", "12x", "0x10", " 1", "99999999999999999999", "1.5"}) {
    state.set("n", text);
    CHECK_THROWS_AS(state.integer("n"), DataError);
    CHECK_THROWS_AS(state.unsigned_integer("n"), DataError);
  }
  state.set("n", "-1");
  CHECK_THROWS_AS(state.unsigned_integer("n"), DataError);
  for (const char* text : {"", "-", "0x", "--1", "-0x-1", "0x1p+0x", "zero"}) {
    state.set("n", text);
    CHECK_THROWS_AS(state.real("n"), DataError);
  }
  const Tensor target = Tensor::zeros({2, 3}, kTest);
  CHECK_NOTHROW(state.copy_to("weight", target));
  CHECK(same(target, state.tensors["weight"]));
  CHECK_THROWS_WITH_AS(state.copy_to("absent", target),
                       "model.safetensors: tensor \"absent\" is missing", DataError);
  CHECK_THROWS_WITH_AS(state.copy_to("ids", target),
                       "model.safetensors: tensor \"ids\" is int32 [3], it must be float32 [2, 3]",
                       DataError);
}

TEST_CASE("names and texts that the format cannot hold are refused, and nothing is left behind") {
  const Folder folder;
  StateDict state;
  state.tensors["__metadata__"] = Tensor::zeros({1}, kTest);
  CHECK_THROWS_AS(save_safetensors(folder.file("x"), state), InvalidArgument);
  state = {};
  state.set("text", "\xff\xfe");
  CHECK_THROWS_AS(save_safetensors(folder.file("x"), state), InvalidArgument);
  state = {};
  state.tensors["undefined"] = Tensor();
  CHECK_THROWS_AS(save_safetensors(folder.file("x"), state), InvalidArgument);
  CHECK(folder.list().empty());
}

TEST_CASE("writes that the system refuses are IoError") {
  const Folder folder;
  CHECK_THROWS_AS(save_safetensors(folder.file("absent/x"), example()), IoError);
  fs::create_directory(folder.file("taken"));
  CHECK_THROWS_AS(save_safetensors(folder.file("taken"), example()), IoError);
  CHECK(folder.list() == std::vector<std::string>{"taken"});
}

TEST_CASE("what is there and no regular file is not replaced") {
  const Folder folder;
  const std::string pipe = folder.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(save_safetensors(pipe, example()),
                       doctest::Contains("pipe: cannot be written: it is no regular file"),
                       IoError);
  CHECK(fs::is_fifo(pipe));
  fs::create_symlink(pipe, folder.file("link"));
  CHECK_THROWS_AS(save_safetensors(folder.file("link"), example()), IoError);
  CHECK(fs::is_symlink(folder.file("link")));
  fs::create_directory(folder.file("taken"));
  CHECK_THROWS_WITH_AS(save_safetensors(folder.file("taken"), example()),
                       doctest::Contains("Is a directory"), IoError);
  CHECK(folder.list().size() == 3);
}

TEST_CASE("when the disk is full the old file stays whole and the temporary goes away") {
  const Folder folder;
  const std::string path = folder.file("state");
  save_safetensors(path, example());
  const std::string before = read_bytes(path);
  StateDict larger = example();
  larger.tensors["large"] = Tensor::zeros({10'000}, kTest);
  for (const rlim_t bytes : {0, 5, 100, 5000, 40'000}) {
    const test::FileSizeBound bound(bytes);
    CHECK_THROWS_AS(save_safetensors(path, larger), IoError);
  }
  CHECK(read_bytes(path) == before);
  CHECK(folder.list() == std::vector<std::string>{"state"});
  CHECK_NOTHROW(save_safetensors(path, larger));
}

TEST_CASE("what is no regular file is DataError") {
  const Folder folder;
  CHECK_THROWS_AS(load_safetensors(folder.file("absent")), DataError);
  fs::create_directory(folder.file("folder"));
  CHECK_THROWS_AS(load_safetensors(folder.file("folder")), DataError);
  CHECK_THROWS_AS(load_safetensors("/dev/zero"), DataError);
}

TEST_CASE("hostile headers are DataError") {
  const Folder folder;
  const std::string path = folder.file("hostile");
  const auto refused = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    CAPTURE(bytes.substr(0, 200));
    CHECK_THROWS_AS(load_safetensors(path), DataError);
  };
  const auto tensor = [](const std::string& body) { return "{\"t\":{" + body + "}}"; };
  const std::string four(4, 'x'), eight(8, 'x');

  // The lengths.
  refused("");
  refused("1234567");
  refused(std::string(8, '\0'));
  refused(std::string(8, '\xff') + "{}");
  refused(with_header("{}").substr(0, 9));
  refused(with_header("{}", four));

  // The JSON.
  refused(with_header("[]"));
  refused(with_header("nul"));
  refused(with_header(" {}"));
  refused(with_header("{\"t\":"));
  refused(with_header("{} x"));
  refused(with_header("{\"\xff\":1}"));
  refused(with_header("{\"t\":1}"));
  refused(with_header("{\"t\":[]}"));
  refused(with_header("{\"t\":{}}"));
  refused(with_header("{\"a\":" + std::string(100'000, '[')));
  refused(with_header("{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}"));

  // Names that stand twice, at each level.
  const std::string good = R"("dtype":"F32","shape":[1],"data_offsets":[0,4])";
  write_bytes(path, with_header(tensor(good), four));
  CHECK_NOTHROW(load_safetensors(path));
  refused(with_header("{\"t\":{" + good + "},\"t\":{" + good + "}}", four));
  refused(with_header(tensor(good + R"(,"shape":[1])"), four));
  refused(with_header(R"({"__metadata__":{"a":"1","a":"2"}})"));
  refused(with_header(tensor(good + R"(,"more":1)"), four));

  // Types.
  for (const char* dtype : {R"("F64")", R"("F16")", R"("f32")", R"("")", "1", "null", "[]"}) {
    refused(with_header(tensor(std::string(R"("shape":[1],"data_offsets":[0,4],"dtype":)") + dtype),
                        four));
  }
  refused(with_header(tensor(R"("dtype":"I64","shape":[1],"data_offsets":[0,4])"), four));

  // Shapes.
  for (const char* shape :
       {"1", "null", "[-1]", "[1.0]", "[\"1\"]", "[[1]]", "[2]", "[0]", "[1,2]", "[1e0]",
        "[18446744073709551615]", "[18446744073709551616]", "[9223372036854775807]",
        "[4294967296,4294967296]", "[4294967296,4294967297]", "[4611686018427387905]",
        "[0,18446744073709551615]", "[-1,-1]"}) {
    refused(with_header(
        tensor(std::string(R"("dtype":"F32","data_offsets":[0,4],"shape":)") + shape), four));
  }

  // Offsets.
  for (const char* offsets :
       {"4", "[0]", "[0,4,4]", "[4,0]", "[-4,0]", "[0,4.0]", "[1,5]", "[4,8]", "[0,8]",
        "[18446744073709551612,18446744073709551616]", "[9223372036854775804,9223372036854775808]",
        "[18446744073709551612,0]"}) {
    refused(with_header(
        tensor(std::string(R"("dtype":"F32","shape":[1],"data_offsets":)") + offsets), four));
  }
  const auto two = [](const char* a, const char* b) {
    return std::string(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)") + a +
           R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + b + "}}";
  };
  write_bytes(path, with_header(two("[4,8]", "[0,4]"), eight));
  CHECK_NOTHROW(load_safetensors(path));
  refused(with_header(two("[0,4]", "[0,4]"), eight));
  refused(with_header(two("[0,4]", "[2,6]"), eight));
  refused(with_header(two("[0,4]", "[0,4]"), four));
  refused(with_header(two("[0,4]", "[8,12]"), eight + four));
  refused(with_header(tensor(good), eight));

  // Metadata.
  for (const char* metadata : {"1", "[]", "null", R"({"a":1})", R"({"a":{}})", R"({"a":null})"}) {
    refused(with_header(std::string(R"({"__metadata__":)") + metadata + "}"));
  }
}

TEST_CASE("a huge claim allocates nothing") {
  const Folder folder;
  const std::string path = folder.file("huge");
  const std::string header =
      R"({"t":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}})";
  write_bytes(path, with_header(header, "1234"));
  allocator().reset_peak();
  const int64_t before = allocator().current().total;
  CHECK_THROWS_AS(load_safetensors(path), DataError);
  CHECK(allocator().peak().total == before);
}

TEST_CASE("a file cut at any length is DataError") {
  const Folder folder;
  const std::string path = folder.file("state");
  save_safetensors(path, example());
  const std::string whole = read_bytes(path);
  for (size_t length = 0; length < whole.size(); ++length) {
    write_bytes(path, whole.substr(0, length));
    CAPTURE(length);
    CHECK_THROWS_AS(load_safetensors(path), DataError);
  }
  write_bytes(path, whole + '\0');
  CHECK_THROWS_AS(load_safetensors(path), DataError);
}

TEST_CASE("a file with any byte changed loads or is DataError") {
  const Folder folder;
  const std::string path = folder.file("state");
  save_safetensors(path, example());
  const std::string whole = read_bytes(path);
  allocator().reset_peak();
  const int64_t before = allocator().current().total;
  int64_t loaded = 0, refused = 0;
  for (size_t place = 0; place < whole.size(); ++place) {
    for (const int mask : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      std::string changed = whole;
      changed[place] = static_cast<char>(changed[place] ^ mask);
      write_bytes(path, changed);
      try {
        load_safetensors(path);
        ++loaded;
      } catch (const DataError&) {
        ++refused;
      }
    }
  }
  CHECK(loaded > 0);
  CHECK(refused > 0);
  CHECK(loaded + refused == static_cast<int64_t>(whole.size()) * 9);
  CHECK(allocator().peak().total - before <= static_cast<int64_t>(whole.size()));
}

class Model : public Module {
 public:
  explicit Model(int64_t rows = 3)
      : weight(add_parameter("weight", {rows, 2})), bias(add_parameter("bias", {2})) {}
  Parameter& weight;
  Parameter& bias;
};

TEST_CASE("parameters of a module come back") {
  const Folder folder;
  Model model;
  Rng rng(1);
  init_uniform(model.weight, rng, -1, 1);
  init_uniform(model.bias, rng, -1, 1);
  StateDict state;
  save_parameters(model, state);
  save_safetensors(folder.file("model"), state);

  Model other;
  load_parameters(load_safetensors(folder.file("model")), other);
  CHECK(same(other.weight.value, model.weight.value));
  CHECK(same(other.bias.value, model.bias.value));
}

TEST_CASE("a state that does not match leaves the module as it was") {
  Model model, target;
  model.weight.value.fill(1.0f);
  model.bias.value.fill(1.0f);
  StateDict state;
  save_parameters(model, state);
  CHECK_THROWS_AS(save_parameters(model, state), InvalidArgument);

  state.tensors.erase("bias");
  CHECK_THROWS_AS(load_parameters(state, target), DataError);
  state.tensors["bias"] = Tensor::zeros({3}, kTest);
  CHECK_THROWS_AS(load_parameters(state, target), DataError);
  CHECK(target.weight.value.data<float>()[0] == 0.0f);

  Model larger(4);
  CHECK_THROWS_AS(load_parameters(state, larger), DataError);
}

int run_python(const Folder& folder, const std::string& script) {
  std::ofstream(folder.file("check.py")) << script;
  return std::system(("python3 " + folder.file("check.py") + " " + folder.file("state")).c_str());
}

const std::string kCheckEntries = R"(
assert sorted(entries) == ["ids", "long", "none", "scalar", "weight"], entries
assert entries["weight"]["shape"] == [2, 3] and entries["weight"]["dtype"] == "F32"
assert struct.unpack("<6f", entries["weight"]["data"])[:2] == (1.5, -2.0)
assert struct.unpack("<3i", entries["ids"]["data"]) == (1, -2, 2147483647)
assert struct.unpack("<2q", entries["long"]["data"]) == (-2**63, 5)
assert entries["none"]["shape"] == [0, 4] and entries["scalar"]["shape"] == []
)";

TEST_CASE("Python's safetensors opens the file") {
  if (std::system("python3 -c 'import safetensors' 2>/dev/null") != 0) {
    MESSAGE("SKIPPED: python3 has no safetensors package");
    return;
  }
  const Folder folder;
  save_safetensors(folder.file("state"), example());
  CHECK(run_python(folder, R"(
import struct, sys
import safetensors
entries = dict(safetensors.deserialize(open(sys.argv[1], "rb").read()))
)" + kCheckEntries) == 0);
}

TEST_CASE("a reader written from the format's description opens the file") {
  if (std::system("python3 -c '' 2>/dev/null") != 0) {
    MESSAGE("SKIPPED: no python3");
    return;
  }
  const Folder folder;
  save_safetensors(folder.file("state"), example());
  CHECK(run_python(folder, R"(
import json, struct, sys
file = open(sys.argv[1], "rb").read()
length = struct.unpack("<Q", file[:8])[0]
assert file[8:9] == b"{"
entries = json.loads(file[8:8 + length].decode("utf-8"))
data = file[8 + length:]
metadata = entries.pop("__metadata__")
assert all(isinstance(value, str) for value in metadata.values())
assert metadata["steps"] == "-12" and float.fromhex(metadata["rate"]) == 0.1
end = 0
for entry in sorted(entries.values(), key=lambda entry: entry["data_offsets"]):
    assert set(entry) == {"dtype", "shape", "data_offsets"}
    size = {"F32": 4, "I32": 4, "I64": 8}[entry["dtype"]]
    begin = entry["data_offsets"][0]
    assert begin == end and begin % size == 0
    end = entry["data_offsets"][1]
    entry["data"] = data[begin:end]
assert end == len(data)
)" + kCheckEntries) == 0);
}

}  // namespace
}  // namespace sketchgrad
