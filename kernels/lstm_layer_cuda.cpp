#include <algorithm>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "sketchgrad/kernels/cudnn.h"
#include "sketchgrad/kernels/device.h"
#include "sketchgrad/kernels/error.h"
#include "sketchgrad/kernels/lstm_layer_impl.h"

namespace sketchgrad::kernels {

namespace {

// Made at the first use; never destroyed, because the driver may be gone before a static is.
cudnnHandle_t handle() {
  static const cudnnHandle_t made = [] {
    cudnnHandle_t created = nullptr;
    SG_CUDNN_CHECK(cudnnCreate(&created));
    return created;
  }();
  return made;
}

// The handle's stream is the handle's.
std::mutex& handle_mutex() {
  static std::mutex mutex;
  return mutex;
}

// A descriptor and the functions that make and destroy it.
template <class Descriptor, auto kCreate, auto kDestroy>
class Owned {
 public:
  Owned() { check_cudnn((cudnn().*kCreate)(&descriptor_), "creating a descriptor"); }
  ~Owned() { (cudnn().*kDestroy)(descriptor_); }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  operator Descriptor() const { return descriptor_; }

 private:
  Descriptor descriptor_ = nullptr;
};
using RnnDescriptor = Owned<cudnnRNNDescriptor_t, &Cudnn::cudnnCreateRNNDescriptor,
                            &Cudnn::cudnnDestroyRNNDescriptor>;
using DropoutDescriptor = Owned<cudnnDropoutDescriptor_t, &Cudnn::cudnnCreateDropoutDescriptor,
                                &Cudnn::cudnnDestroyDropoutDescriptor>;
using DataDescriptor = Owned<cudnnRNNDataDescriptor_t, &Cudnn::cudnnCreateRNNDataDescriptor,
                             &Cudnn::cudnnDestroyRNNDataDescriptor>;
using TensorDescriptor = Owned<cudnnTensorDescriptor_t, &Cudnn::cudnnCreateTensorDescriptor,
                               &Cudnn::cudnnDestroyTensorDescriptor>;

// The default lets cuDNN round to TF32. What it would round to beyond that is fp16, which is not
// asked for: gradients leave its range.
cudnnMathType_t math_type(ProductPrecision precision) {
  return precision == ProductPrecision::fp32 ? CUDNN_FMA_MATH : CUDNN_DEFAULT_MATH;
}

// cuDNN's view of one layer, and how much room it asks for.
class Layer {
 public:
  Layer(const Exec& exec, const LstmLayerShape& shape, cudnnForwardMode_t mode) : shape_(shape) {
    SG_CUDNN_CHECK(cudnnSetStream(handle(), static_cast<cudaStream_t>(exec.stream)));
    // Dropout between layers is ours, so that masks can be repeated.
    SG_CUDNN_CHECK(cudnnSetDropoutDescriptor(dropout_, handle(), 0.0f, nullptr, 0, 0));
    const auto size = [](int64_t value) { return static_cast<int32_t>(value); };
    SG_CUDNN_CHECK(cudnnSetRNNDescriptor_v8(
        rnn_, CUDNN_RNN_ALGO_STANDARD, CUDNN_LSTM, CUDNN_RNN_DOUBLE_BIAS, CUDNN_UNIDIRECTIONAL,
        CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT, math_type(exec.products),
        size(shape.input), size(shape.hidden), size(shape.output()), /*numLayers=*/1, dropout_,
        CUDNN_RNN_PADDED_IO_DISABLED));
    const std::vector<int> lengths(static_cast<size_t>(shape.batch), size(shape.steps));
    const auto set_data = [&](cudnnRNNDataDescriptor_t data, int64_t columns) {
      SG_CUDNN_CHECK(cudnnSetRNNDataDescriptor(
          data, CUDNN_DATA_FLOAT, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_PACKED, size(shape.steps),
          size(shape.batch), size(columns), lengths.data(), nullptr));
    };
    set_data(x_, shape.input);
    set_data(y_, shape.output());
    set_state(h_, shape.output());
    set_state(c_, shape.hidden);
    SG_CUDNN_CHECK(cudnnGetRNNWeightSpaceSize(handle(), rnn_, &weight_bytes_));
    SG_CUDNN_CHECK(
        cudnnGetRNNTempSpaceSizes(handle(), rnn_, mode, x_, &work_bytes_, &reserve_bytes_));
  }

  size_t weight_bytes() const { return weight_bytes_; }
  size_t reserve_bytes() const { return reserve_bytes_; }
  size_t work_bytes() const { return work_bytes_; }
  cudnnRNNDescriptor_t rnn() const { return rnn_; }
  cudnnRNNDataDescriptor_t x() const { return x_; }
  cudnnRNNDataDescriptor_t y() const { return y_; }
  cudnnTensorDescriptor_t h() const { return h_; }
  cudnnTensorDescriptor_t c() const { return c_; }

  // Where `arrays` lie in a weight space.
  std::vector<ArrayPart> parts(const LstmLayerArrays<float>& arrays, char* weight_space) const {
    const TensorDescriptor weight_shape, bias_shape;
    return lstm_layer_parts(shape_, arrays, [&](int layer) {
      void* weight = nullptr;
      void* bias = nullptr;
      SG_CUDNN_CHECK(cudnnGetRNNWeightParams(handle(), rnn_, 0, weight_bytes_, weight_space, layer,
                                             weight_shape, &weight, bias_shape, &bias));
      return std::pair(static_cast<float*>(weight), static_cast<float*>(bias));
    });
  }

 private:
  void set_state(cudnnTensorDescriptor_t state, int64_t columns) const {
    const int sizes[3] = {1, static_cast<int>(shape_.batch), static_cast<int>(columns)};
    const int strides[3] = {sizes[1] * sizes[2], sizes[2], 1};
    SG_CUDNN_CHECK(cudnnSetTensorNdDescriptor(state, CUDNN_DATA_FLOAT, 3, sizes, strides));
  }

  LstmLayerShape shape_;
  DropoutDescriptor dropout_;
  RnnDescriptor rnn_;
  DataDescriptor x_, y_;
  TensorDescriptor h_, c_;
  size_t weight_bytes_ = 0;
  size_t work_bytes_ = 0;
  size_t reserve_bytes_ = 0;
};

size_t byte_count(const ArrayPart& part) { return static_cast<size_t>(part.count) * sizeof(float); }

// Weights in cuDNN's own order.
class WeightSpace {
 public:
  WeightSpace(const Exec& exec, const Layer& layer, const char* name)
      : exec_(exec),
        layer_(layer),
        bytes_(exec, static_cast<int64_t>(layer.weight_bytes()), name) {}
  char* data() const { return bytes_.data(); }

  void clear() const { cuda::set_bytes(exec_, data(), 0, layer_.weight_bytes()); }
  void take(const LstmLayerArrays<const float>& arrays) const {
    // What is only read here.
    const auto writable = [](const float* array) { return const_cast<float*>(array); };
    const LstmLayerArrays<float> ours{writable(arrays.weight_ih), writable(arrays.weight_hh),
                                      writable(arrays.bias_ih), writable(arrays.bias_hh),
                                      writable(arrays.weight_hr)};
    for (const ArrayPart& part : layer_.parts(ours, data())) {
      cuda::copy_on_device(exec_, part.ours, part.theirs, byte_count(part));
    }
  }
  void give(const LstmLayerArrays<float>& arrays) const {
    for (const ArrayPart& part : layer_.parts(arrays, data())) {
      cuda::copy_on_device(exec_, part.theirs, part.ours, byte_count(part));
    }
  }

 private:
  const Exec& exec_;
  const Layer& layer_;
  ScratchArray<char> bytes_;
};

}  // namespace

namespace cuda {

int64_t lstm_layer_reserve_bytes(const Exec& exec, const LstmLayerShape& shape) {
  const std::lock_guard lock(handle_mutex());
  return static_cast<int64_t>(Layer(exec, shape, CUDNN_FWD_MODE_TRAINING).reserve_bytes());
}

void lstm_layer_forward(const Exec& exec, const LstmLayerShape& shape,
                        const LstmLayerArrays<const float>& weights, const float* x, const float* h,
                        const float* c, float* y, float* h_next, float* c_next, void* reserve) {
  const std::lock_guard lock(handle_mutex());
  const auto mode = reserve != nullptr ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE;
  const Layer layer(exec, shape, mode);
  const WeightSpace space(exec, layer, "cudnn.weights");
  space.take(weights);
  const ScratchArray<char> work(exec, static_cast<int64_t>(layer.work_bytes()), "cudnn.workspace");
  // Lengths on the device are not asked for since cuDNN 8.9.1: all sequences are as long.
  SG_CUDNN_CHECK(cudnnRNNForward(handle(), layer.rnn(), mode, nullptr, layer.x(), x, layer.y(), y,
                                 layer.h(), h, h_next, layer.c(), c, c_next, layer.weight_bytes(),
                                 space.data(), layer.work_bytes(), work.data(),
                                 reserve != nullptr ? layer.reserve_bytes() : 0, reserve));
}

void lstm_layer_backward(const Exec& exec, const LstmLayerShape& shape,
                         const LstmLayerArrays<const float>& weights, const float* x,
                         const float* h, const float* c, const float* y, const float* grad_y,
                         void* reserve, float* grad_x, const LstmLayerArrays<float>& gradients) {
  const std::lock_guard lock(handle_mutex());
  const Layer layer(exec, shape, CUDNN_FWD_MODE_TRAINING);
  const WeightSpace space(exec, layer, "cudnn.weights");
  space.take(weights);
  const ScratchArray<char> work(exec, static_cast<int64_t>(layer.work_bytes()), "cudnn.workspace");
  // The weights' gradient needs what this leaves in the reserve, whether x wants one or not.
  const ScratchArray<float> unwanted(
      exec, grad_x == nullptr ? shape.steps * shape.batch * shape.input : 0, "cudnn.grad_x");
  SG_CUDNN_CHECK(cudnnRNNBackwardData_v8(
      handle(), layer.rnn(), nullptr, layer.y(), y, grad_y, layer.x(),
      grad_x != nullptr ? grad_x : unwanted.data(), layer.h(), h, nullptr, nullptr, layer.c(), c,
      nullptr, nullptr, layer.weight_bytes(), space.data(), layer.work_bytes(), work.data(),
      layer.reserve_bytes(), reserve));
  const WeightSpace gradient(exec, layer, "cudnn.weight_gradients");
  gradient.clear();  // cuDNN adds
  SG_CUDNN_CHECK(
      cudnnRNNBackwardWeights_v8(handle(), layer.rnn(), CUDNN_WGRAD_MODE_ADD, nullptr, layer.x(), x,
                                 layer.h(), h, layer.y(), y, layer.weight_bytes(), gradient.data(),
                                 layer.work_bytes(), work.data(), layer.reserve_bytes(), reserve));
  gradient.give(gradients);
}

}  // namespace cuda
}  // namespace sketchgrad::kernels
