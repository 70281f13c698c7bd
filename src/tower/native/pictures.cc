// A TensorFlow op for what conv1 sees: uint8 pixels [N,H,W,C] become fp32 pictures [N,H+P,W+P,C], each channel plus a shift of its own, with
// zeros at the bottom and on the right. One pass: of TensorFlow's ops it takes three, over four times the bytes.
// Shifts are [1,C], the same for all pictures, or [N,C].

#include <algorithm>
#include <cstdint>
#include <vector>

#include "instructionSets.h"
#include "sharing.h"
#include "tensorflowOps.h"

namespace crosstower {
namespace {

struct Margin {
  int64_t padding = 0;
  void read(Attributes& attributes) { attributes.read("padding", &padding); }
};

FOR_EACH_INSTRUCTION_SET
void shiftRow(const uint8_t* __restrict pixels, const float* __restrict shifts, float* __restrict picture, long floats) {
  for (long i = 0; i < floats; i++) picture[i] = static_cast<float>(pixels[i]) + shifts[i];
}

void compute(void* margin, TF_OpKernelContext* context) {
  Call call(context);
  const Tensor pixels = call.input(0), shifts = call.input(1);
  if (!call.isGood()) return;
  const auto shape = shapeOf(pixels), shiftShape = shapeOf(shifts);
  const int64_t padding = static_cast<Margin*>(margin)->padding;
  call.require(shape.size() == 4 && padding >= 0, "pixels must have the shape [N,H,W,C], and padding none or more");
  call.require(shape.size() == 4 && shiftShape.size() == 2 && (shiftShape[0] == 1 || shiftShape[0] == shape[0]) && shiftShape[1] == shape[3],
               "shifts must have one value for each of the channels, for all pictures or for each");
  if (!call.isGood()) return;
  const long height = shape[1], width = shape[2], channels = shape[3];
  const Tensor pictures = call.output(0, {shape[0], height + padding, width + padding, channels});
  if (!call.isGood()) return;
  const long from = width * channels, to = (width + padding) * channels;
  share(shape[0], threadsFor(shape[0] * height * from), [&](long first, long end) {
    std::vector<float> row(from);
    for (long n = first; n < end; n++) {
      const float* shift = floatsOf(shifts) + (shiftShape[0] == 1 ? 0 : n * channels);
      for (long i = 0; i < from; i++) row[i] = shift[i % channels];
      const uint8_t* pixel = bytesOf(pixels) + n * height * from;
      float* picture = floatsOf(pictures) + n * (height + padding) * to;
      for (long y = 0; y < height; y++, pixel += from, picture += to) {
        shiftRow(pixel, row.data(), picture, from);
        std::fill(picture + from, picture + to, 0.0f);
      }
      std::fill_n(picture, padding * to, 0.0f);
    }
  });
}

/** Registered when the library is loaded. */
[[maybe_unused]] const bool registered = [] {
  registerOp<Margin>({"CrosstowerPictures", {"pixels: uint8", "shifts: float"}, {"pictures: float"}, {"padding: int"}, compute});
  return true;
}();

}  // namespace
}  // namespace crosstower
