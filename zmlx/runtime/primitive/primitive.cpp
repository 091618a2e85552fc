// A launch on the host as an operation of MLX's graph: mx.compile, mx.vmap and mx.checkpoint meet it like one of MLX's
// own, and it runs when MLX evaluates it, on the thread of its stream.
//
// Built against the headers of the MLX that is installed, and linked to its library. What Python hands over are addresses
// of mx.array objects: they are nanobind's, with the C++ object inside (`inside`). primitive.py tries that out in a process
// of its own before any other uses it.

#include "primitive/call.h"
#include "primitive/derivation.h"
#include "primitive/work.h"

#include "mlx/backend/cpu/encoder.h"
#include "mlx/ops.h"
#include "mlx/primitives.h"
#include "mlx/scheduler.h"
#include "mlx/utils.h"

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace zmlx {
namespace {

// Before MLX looked after errors of its streams, an exception on one of their threads ended the process.
static_assert(sizeof(&mx::scheduler::Scheduler::check_error) > 0);

// MLX (0.32) raises the error of a stream as soon as the stream is given more to do, and then counts a task that it never
// runs. Once it counts ten, evaluations wait for one of them to end, for ever. So what is left of the count when nothing
// runs any more is taken back, by whoever uses the stream that failed: nobody else is to get its error.
void settle(const mx::Stream& own) {
  if (!failures().has(own.index)) return;
  mx::synchronize(own);
  std::vector<mx::Stream> others;
  for (const mx::Stream& stream : mx::get_streams()) {
    // A stream of a GPU can be asked for where there is none.
    if (!mx::is_available(stream.device)) continue;
    // Waiting for a GPU could be waiting for work that this evaluation has not handed over yet.
    if (stream.device != mx::Device::cpu) return failures().remove(own.index);
    if (!failures().has(stream.index)) others.push_back(stream);
  }
  for (const mx::Stream& stream : others) mx::synchronize(stream);
  for (int left = mx::scheduler::n_active_tasks(); left > 0; --left)
    mx::scheduler::notify_task_completion(own);
  failures().remove(own.index);
}

class KernelLaunch final : public mx::Primitive {
 public:
  // `shapes` are the inputs' without the axes that vmap has put in front of them all, whose extents `batch` has.
  KernelLaunch(mx::Stream stream, std::shared_ptr<const Call> call, std::vector<mx::Shape> shapes, mx::Shape batch)
      : Primitive(stream), call_(std::move(call)), shapes_(std::move(shapes)), batch_(std::move(batch)) {}

  void eval_cpu(const std::vector<mx::array>& inputs, std::vector<mx::array>& outputs) override {
    settle(stream());
    auto work = std::make_shared<Work>(call_, batch_, stream().index);
    for (const mx::array& input : inputs) work->add_input(input);
    for (mx::array& output : outputs) work->add_output(output);
    mx::cpu::get_command_encoder(stream()).dispatch([work]() { work->run(); });
  }

  void eval_gpu(const std::vector<mx::array>&, std::vector<mx::array>&) override {
    throw std::runtime_error("[metal_kernel] Kernel '" + call_->name + "' was traced for the CPU.");
  }

  std::pair<std::vector<mx::array>, std::vector<int>> vmap(
      const std::vector<mx::array>& inputs, const std::vector<int>& axes) override {
    int extent = 1;
    std::vector<mx::array> moved;
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (axes[i] >= 0) extent = inputs[i].shape(axes[i]);
      // An axis of extent 1 stands for what is the same everywhere.
      moved.push_back(axes[i] < 0 ? mx::expand_dims(inputs[i], 0, stream()) : mx::moveaxis(inputs[i], axes[i], 0, stream()));
    }
    mx::Shape batch{extent};
    batch.insert(batch.end(), batch_.begin(), batch_.end());
    return {made(call_, stream(), moved, shapes_, batch), std::vector<int>(call_->shapes.size(), 0)};
  }

  std::vector<mx::array> jvp(
      const std::vector<mx::array>& primals, const std::vector<mx::array>& tangents,
      const std::vector<int>& argnums) override {
    return derived(*call_, {JVP, &primals, &tangents, &argnums, &batch_});
  }

  std::vector<mx::array> vjp(
      const std::vector<mx::array>& primals, const std::vector<mx::array>& cotangents,
      const std::vector<int>& argnums, const std::vector<mx::array>&) override {
    return derived(*call_, {VJP, &primals, &cotangents, &argnums, &batch_});
  }

  // Not MLX's "CustomKernel": mx.export_function takes what is called that for an object of MLX's class.
  const char* name() const override { return "ZmlxKernel"; }

  bool is_equivalent(const mx::Primitive& other) const override {
    const auto& launch = static_cast<const KernelLaunch&>(other);  // MLX compares the types first
    return call_ == launch.call_ && batch_ == launch.batch_;
  }

  // A shapeless function asks, with the inputs it has now. What depends on the shapes, the grid and the outputs' shapes,
  // was computed in Python when the function was traced.
  std::vector<mx::Shape> output_shapes(const std::vector<mx::array>& inputs) override {
    for (size_t i = 0; i < inputs.size(); ++i) {
      mx::Shape inner(inputs[i].shape().begin() + batch_.size(), inputs[i].shape().end());
      if (inner == shapes_[i]) continue;
      throw std::invalid_argument(
          "[metal_kernel] Kernel '" + call_->name + "' was traced with inputs[" + std::to_string(i) + "] of shape " +
          text(shapes_[i]) + " and now gets " + text(inner) +
          ": its grid and its outputs' shapes are those of the call that was traced. Leave shapeless=True out, so that "
          "mx.compile traces each shape.");
    }
    return batched(*call_, batch_);
  }

  static std::vector<mx::array> made(
      const std::shared_ptr<const Call>& call, mx::Stream stream, const std::vector<mx::array>& inputs,
      const std::vector<mx::Shape>& shapes, const mx::Shape& batch) {
    return mx::array::make_arrays(
        batched(*call, batch), call->dtypes, std::make_shared<KernelLaunch>(stream, call, shapes, batch), inputs);
  }

 private:
  static std::vector<mx::Shape> batched(const Call& call, const mx::Shape& batch) {
    std::vector<mx::Shape> found;
    for (const mx::Shape& shape : call.shapes) {
      found.push_back(batch);
      found.back().insert(found.back().end(), shape.begin(), shape.end());
    }
    return found;
  }

  const std::shared_ptr<const Call> call_;
  const std::vector<mx::Shape> shapes_;
  const mx::Shape batch_;
};

enum StreamKind : uint32_t { DEFAULT = 0, PLAIN = 1, OF_THREAD = 2 };

mx::Stream resolved(uint32_t kind, Object* stream) {
  if (kind == PLAIN) return *static_cast<mx::Stream*>(inside(stream));
  if (kind == OF_THREAD) return mx::stream_from_thread_local_stream(*static_cast<mx::ThreadLocalStream*>(inside(stream)));
  return mx::default_stream(mx::Device::cpu);
}

thread_local std::string failure;

template <typename F>
int guarded(F&& f) {
  try {
    f();
    return 0;
  } catch (const std::exception& error) {
    failure = error.what();
    return 1;
  }
}

}  // namespace
}  // namespace zmlx

#define ZMLX_EXPORT extern "C" __attribute__((visibility("default")))

// What went wrong in the calls below that return 1.
ZMLX_EXPORT const char* zmlx_failure() { return zmlx::failure.c_str(); }

// `samples` has an array of one element for each output: its dtype, and what it is filled with.
ZMLX_EXPORT int zmlx_call_new(const zmlx::CallArguments* arguments, zmlx::Object* samples, void** result) {
  return zmlx::guarded([&] { *result = new std::shared_ptr<const zmlx::Call>(zmlx::make_call(*arguments, samples)); });
}

ZMLX_EXPORT void zmlx_call_free(void* call) { delete static_cast<std::shared_ptr<const zmlx::Call>*>(call); }

// Puts the lazy outputs of a call on the list `inputs` into the arrays on the list `outputs`.
ZMLX_EXPORT int zmlx_call_lazily(
    const void* call, zmlx::Object* inputs, zmlx::Object* outputs, uint32_t stream_kind, zmlx::Object* stream) {
  return zmlx::guarded([&] {
    const auto& what = *static_cast<const std::shared_ptr<const zmlx::Call>*>(call);
    const zmlx::Python& python = *what->plan.python;
    std::vector<mx::array> given;
    std::vector<mx::Shape> shapes;
    given.reserve(what->plan.inputs);
    for (uint32_t i = 0; i < what->plan.inputs; ++i) {
      given.push_back(zmlx::array_of(python.list_item(inputs, i)));
      shapes.push_back(given.back().shape());
    }
    const auto made = zmlx::KernelLaunch::made(what, zmlx::resolved(stream_kind, stream), given, shapes, {});
    for (size_t i = 0; i < made.size(); ++i)
      zmlx::array_of(python.list_item(outputs, static_cast<ptrdiff_t>(i))).overwrite_descriptor(made[i]);
  });
}

// Makes `output`, an array of the dtype that is wanted, one of `shape` that nobody has written to, and `room` the memory
// that it lies in: a band more on each side.
ZMLX_EXPORT int zmlx_unwritten(zmlx::Object* output, zmlx::Object* room, const int32_t* shape, uint32_t rank) {
  return zmlx::guarded([&] {
    const mx::Dtype dtype = zmlx::array_of(output).dtype();
    mx::array made(mx::Shape(shape, shape + rank), dtype, nullptr, {});
    const size_t edge = zmlx::BAND / mx::size_of(dtype);
    const size_t count = made.size() + 2 * edge;
    // An axis of an MLX array is shorter than 2^31.
    const size_t inner = count < (size_t(1) << 31) ? count : size_t(1) << 20;
    mx::array all(
        mx::Shape{static_cast<int>((count + inner - 1) / inner), static_cast<int>(inner)}, dtype, nullptr, {});
    all.set_data(zmlx::memory(all.nbytes()));
    made.copy_shared_buffer(
        all, made.strides(), zmlx::row_contiguous(made), made.size(), static_cast<int64_t>(edge));
    for (const mx::array* array : {&all, &made}) array->set_status(mx::array::Status::available);
    zmlx::array_of(output).overwrite_descriptor(made);
    zmlx::array_of(room).overwrite_descriptor(all);
  });
}

// Whether a transformation, such as mx.grad, follows one of the things on a list: of those that are of the type `array`.
ZMLX_EXPORT int zmlx_followed(const zmlx::Python* python, const zmlx::Object* array, zmlx::Object* things) {
  for (ptrdiff_t i = 0, count = python->list_size(things); i < count; ++i) {
    zmlx::Object* thing = python->list_item(things, i);
    if (static_cast<zmlx::Instance*>(thing)->type == array && zmlx::array_of(thing).is_tracer()) return 1;
  }
  return 0;
}

ZMLX_EXPORT uint32_t zmlx_derivation_count(const zmlx::Derivation* derivation, uint32_t what) {
  return derivation->count(what);
}

ZMLX_EXPORT int32_t zmlx_derivation_number(const zmlx::Derivation* derivation, uint32_t what, uint32_t index) {
  return derivation->number(what, index);
}

ZMLX_EXPORT void zmlx_derivation_get(
    const zmlx::Derivation* derivation, uint32_t what, uint32_t index, zmlx::Object* array) {
  zmlx::array_of(array).overwrite_descriptor(derivation->array(what, index));
}

ZMLX_EXPORT void zmlx_derivation_put(zmlx::Derivation* derivation, zmlx::Object* array) {
  derivation->results.push_back(zmlx::array_of(array));
}

ZMLX_EXPORT void zmlx_derivation_fail(zmlx::Derivation* derivation, const char* text) { derivation->error = text; }

// For the self-test: what this library finds in an array and a stream.
ZMLX_EXPORT void zmlx_describe(zmlx::Object* array, int64_t* found) {
  const mx::array& here = zmlx::array_of(array);
  found[0] = static_cast<int64_t>(here.ndim());
  found[1] = static_cast<int64_t>(here.size());
  found[2] = static_cast<int64_t>(here.itemsize());
  found[3] = here.ndim() ? here.shape(0) : 0;
  found[4] = here.dtype() == mx::float16;
}

ZMLX_EXPORT int zmlx_is_default_stream(zmlx::Object* stream) {
  return *static_cast<mx::Stream*>(zmlx::inside(stream)) == mx::default_stream(mx::Device::cpu);
}

ZMLX_EXPORT void zmlx_copy(zmlx::Object* from, zmlx::Object* to) {
  zmlx::array_of(to).overwrite_descriptor(zmlx::array_of(from));
}
