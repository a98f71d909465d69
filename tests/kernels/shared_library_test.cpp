#include "sketchgrad/kernels/shared_library.h"

#include <doctest/doctest.h>

#include <string>

#include "sketchgrad/kernels/error.h"

namespace sketchgrad::kernels {
namespace {

TEST_CASE("shared library: the first file that is found, and its functions") {
  const SharedLibrary library("the mathematics", {"libnowhere.so.7", "libm.so.6"});
  const auto cosine = reinterpret_cast<double (*)(double)>(library.find("cos"));
  CHECK(cosine(0.0) == 1.0);
  CHECK_THROWS_AS(library.find("no_such_function"), CudaError);
}

TEST_CASE("shared library: what is missing is named with the reasons") {
  try {
    SharedLibrary("cuNONE", {"libnowhere.so.7", "/nowhere/else.so"});
    FAIL("it was found");
  } catch (const CudaError& error) {
    const std::string message = error.what();
    for (const char* part : {"cuNONE", "libnowhere.so.7", "/nowhere/else.so"}) {
      CHECK(message.find(part) != std::string::npos);
    }
    CHECK(message.find('\n') == std::string::npos);
  }
}

}  // namespace
}  // namespace sketchgrad::kernels
