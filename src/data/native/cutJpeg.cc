// A window of a JPEG picture, decoded into memory that is given: an addon for Node on libjpeg-turbo (docs/adr/0018-jpeg-decoder.md).
//   cut(jpeg, out, side, isWhole, top, left, height, width, isMirrored) -> whether it was done
// The window lies in the middle square [side,side,3] of a picture whose shorter side is `side`; only its rows and columns are decoded.
// Invariant: what is written is to the byte what sharp makes of the same file. Whatever is out of the ordinary is refused, and sharp
// decides on it: another size, metadata that turns the picture or changes its colours, other samplings of the colours, and any warning.

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include <node_api.h>

#include <jpeglib.h>

namespace {

// Of the middle square.
struct Window {
  uint32_t side, isWhole, top, left, height, width, isMirrored;
};

struct Refusal : jpeg_error_mgr {
  jmp_buf escape;
};

[[noreturn]] void refuse(j_common_ptr codec) { longjmp(static_cast<Refusal*>(codec->err)->escape, 1); }

void refuseWarning(j_common_ptr codec, int level) {
  if (level < 0) refuse(codec);
}

constexpr int exifMarker = JPEG_APP0 + 1, profileMarker = JPEG_APP0 + 2;
constexpr uint32_t channels = 3;
// Columns beside the window that its colours are interpolated from, where the picture has one value of a colour for two columns.
constexpr uint32_t margin = 2;
// libjpeg-turbo writes rows that begin at a multiple of 16 or 32 bytes past the caches, and reading one back at once then costs more than
// a quarter of the decoding.
constexpr uint32_t offAlignment = 8;

bool isOrdinary(const jpeg_decompress_struct& picture, const Window& window) {
  for (auto marker = picture.marker_list; marker != nullptr; marker = marker->next) {
    const auto begins = [marker](const char* name) {
      const auto length = std::strlen(name);
      return marker->data_length >= length && std::memcmp(marker->data, name, length) == 0;
    };
    if (marker->marker == exifMarker ? begins("Exif") : begins("ICC_PROFILE")) return false;
  }
  const uint32_t width = picture.image_width, height = picture.image_height;
  const bool fits = window.isWhole ? width == window.side && height == window.side
                                   : (width < height ? width : height) == window.side;
  if (!fits || picture.data_precision != 8 || picture.arith_code) return false;
  if (picture.num_components == 1) return picture.jpeg_color_space == JCS_GRAYSCALE;
  if (picture.jpeg_color_space != JCS_YCbCr || picture.num_components != 3) return false;
  const auto* parts = picture.comp_info;
  const int sampling = parts[0].h_samp_factor;
  return (sampling == 1 || sampling == 2) && parts[0].v_samp_factor == sampling && parts[1].h_samp_factor == 1 &&
         parts[1].v_samp_factor == 1 && parts[2].h_samp_factor == 1 && parts[2].v_samp_factor == 1;
}

void copyRow(const uint8_t* source, uint32_t bytes, uint8_t* out) { std::memcpy(out, source, bytes); }

// Four bytes at a time where there are as many: the fourth is the next pixel's first, which is written after it.
void mirrorRow(const uint8_t* source, uint32_t bytes, uint8_t* out) {
  const uint8_t* from = source + bytes - channels;
  for (uint32_t rest = bytes; rest > channels; rest -= channels, from -= channels, out += channels) std::memcpy(out, from, 4);
  std::memcpy(out, from, channels);
}

// Writes [height,width,3]; false where the picture was refused, and what was written by then is without meaning. Nothing here has a
// destructor, which a longjmp would pass over.
bool cut(const uint8_t* jpeg, size_t length, const Window& window, uint8_t* out) {
  jpeg_decompress_struct picture{};
  Refusal refusal;
  picture.err = jpeg_std_error(&refusal);
  refusal.error_exit = refuse;
  refusal.emit_message = refuseWarning;
  if (setjmp(refusal.escape)) {
    jpeg_destroy_decompress(&picture);
    return false;
  }
  jpeg_create_decompress(&picture);
  jpeg_mem_src(&picture, jpeg, length);
  jpeg_save_markers(&picture, exifMarker, 16);
  jpeg_save_markers(&picture, profileMarker, 16);
  jpeg_read_header(&picture, TRUE);
  // Several scans (progressive pictures among them) are kept whole in memory, however many there are: sharp has a limit for them.
  if (!isOrdinary(picture, window) || jpeg_has_multiple_scans(&picture)) refuse(reinterpret_cast<j_common_ptr>(&picture));
  picture.out_color_space = JCS_RGB;
  picture.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&picture);

  const uint32_t top = (picture.image_height - window.side + 1) / 2 + window.top;
  const uint32_t left = (picture.image_width - window.side + 1) / 2 + window.left;
  const uint32_t end = left + window.width + margin;
  JDIMENSION first = left < margin ? 0 : left - margin;
  JDIMENSION columns = (end < picture.image_width ? end : picture.image_width) - first;
  jpeg_crop_scanline(&picture, &first, &columns);
  if (top > 0) jpeg_skip_scanlines(&picture, top);
  auto* rows = (*picture.mem->alloc_sarray)(reinterpret_cast<j_common_ptr>(&picture), JPOOL_IMAGE,
                                            columns * channels + 2 * offAlignment, 1);
  JSAMPROW line = rows[0] + offAlignment;
  const uint8_t* source = line + (left - first) * channels;
  const uint32_t bytes = window.width * channels;
  for (uint32_t row = 0; row < window.height; row++) {
    jpeg_read_scanlines(&picture, &line, 1);
    (window.isMirrored ? mirrorRow : copyRow)(source, bytes, out + static_cast<size_t>(row) * bytes);
  }
  jpeg_destroy_decompress(&picture);
  return true;
}

bool readBytes(napi_env env, napi_value value, uint8_t** data, size_t* length) {
  napi_typedarray_type type;
  return napi_get_typedarray_info(env, value, &type, length, reinterpret_cast<void**>(data), nullptr, nullptr) == napi_ok &&
         type == napi_uint8_array;
}

bool isInside(const Window& w, size_t outBytes) {
  const uint64_t side = w.side;
  return side <= JPEG_MAX_DIMENSION && w.height > 0 && w.width > 0 && w.top <= side && w.left <= side && w.height <= side - w.top &&
         w.width <= side - w.left && outBytes == static_cast<size_t>(channels) * w.height * w.width;
}

napi_value cutForNode(napi_env env, napi_callback_info info) {
  constexpr size_t count = 9;
  napi_value given[count];
  size_t givenCount = count;
  uint8_t *jpeg, *out;
  size_t jpegBytes, outBytes;
  uint32_t numbers[count - 2];
  bool isRight = napi_get_cb_info(env, info, &givenCount, given, nullptr, nullptr) == napi_ok && givenCount == count &&
                 readBytes(env, given[0], &jpeg, &jpegBytes) && readBytes(env, given[1], &out, &outBytes);
  for (size_t i = 2; isRight && i < count; i++) isRight = napi_get_value_uint32(env, given[i], &numbers[i - 2]) == napi_ok;
  const auto& [side, isWhole, top, left, height, width, isMirrored] = numbers;
  const Window window{side, isWhole, top, left, height, width, isMirrored};
  if (!isRight || !isInside(window, outBytes)) {
    napi_throw_range_error(env, nullptr, "cut takes a JPEG's bytes, memory of the window's size, and a window inside the square");
    return nullptr;
  }
  napi_value result;
  return napi_get_boolean(env, cut(jpeg, jpegBytes, window, out), &result) == napi_ok ? result : nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  napi_value function;
  const bool isMade = napi_create_function(env, "cut", NAPI_AUTO_LENGTH, cutForNode, nullptr, &function) == napi_ok &&
                      napi_set_named_property(env, exports, "cut", function) == napi_ok;
  if (!isMade) napi_throw_error(env, nullptr, "the JPEG decoder's function could not be made");
  return exports;
}
