#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace klein::weights {

using Shape = std::vector<std::int64_t>;

/// Tensors by name, as if nothing were packed: the shape of a quantized matrix is that of its
/// numbers, and its scales are not listed.
using Shapes = std::map<std::string, Shape, std::less<>>;

/// Whose names the tensors of a file bear.
enum class Convention {
  diffusers,     ///< Transformer and autoencoder.
  transformers,  ///< Text encoder; some programs leave out its first word, `model`.
  bfl,           ///< Transformer and autoencoder; ComfyUI's and GGUF files have these names too.
  llama_cpp,     ///< Text encoder, in GGUF files.
  mflux,         ///< diffusers' and transformers', but for a few; channels-last convolutions.
};

/// "diffusers", "BFL", "llama.cpp": for messages and tables.
std::string_view convention_name(Convention convention);

/// Order of the axes of a convolution's weight.
enum class ConvLayout {
  torch,          ///< [O, I, kH, kW]
  channels_last,  ///< [O, kH, kW, I], as MLX convolves.
};

/// Where one tensor of a module lies in a file.
struct Origin {
  std::string source;  ///< Name in the file.
  int part = 0;        ///< It is the part-th of `parts` equal ranges of the source's rows.
  int parts = 1;
  bool swap_halves = false;  ///< The second half of the source's rows comes first.
  ConvLayout layout = ConvLayout::torch;
  bool squeeze = false;  ///< [O, I, 1, 1] in the file, [O, I] in the module.

  bool operator==(const Origin&) const = default;
};

/// A file's names put into those of the modules, which are diffusers' and transformers'.
struct Renaming {
  std::map<std::string, Origin, std::less<>> origins;  ///< By the module's name.
  std::vector<std::string> unused;                     ///< Names of the file that no module wants.
};

/// One line of a table of names. In `from`, `#` stands for a number, `%` for one word and `*`, at
/// the end, for the rest; in `to` they stand for what was found, in order, and `~` for a number
/// counted from the other end of `count_from_end` levels.
struct NameRule {
  std::string_view from;
  std::string_view to;  ///< Empty: nobody wants the tensor.
  int part = 0;
  int parts = 1;
  bool swap_halves = false;
  bool squeeze = false;  ///< Where the tensor is the weight of a 1x1 convolution.
};

/// What the table says of every tensor below `prefix`; others are unused.
///
/// The first rule that matches counts, and those directly after it with the same `from`. A name
/// that no rule knows is kept, without the prefix: where a module does not expect it, its loader
/// lists it together with everything else that does not fit.
///
/// Errors   Error(format) when two tensors claim the same name; `where` is the file
Renaming rename(const Shapes& tensors, std::string_view prefix, std::span<const NameRule> rules,
                int count_from_end, std::string_view where);

/// One tensor of a file to be written: which weights become it.
struct Merged {
  std::vector<std::string> sources;  ///< Their rows under each other.
  bool swap_halves = false;
  bool squeeze = false;  ///< The file has [O, I, 1, 1] where the model has [O, I].

  bool operator==(const Merged&) const = default;
};

/// The other way round: what the tensors of a file in these names are made of, by their names. A
/// weight that no rule leads to keeps its name.
std::map<std::string, Merged> unrename(const std::vector<std::string>& weights,
                                       std::span<const NameRule> rules, int count_from_end);

/// The shapes that the modules get to see.
///
/// Errors   Error(shape) when rows do not divide as an origin says, Error(internal) for a source
///          that is not in `tensors`; `where` is the file
Shapes renamed_shapes(const Renaming& renaming, const Shapes& tensors, std::string_view where);

/// Number of children `<prefix>0.`, `<prefix>1.`, ... of which `tensors` holds anything.
///
/// Errors   Error(shape) when a number is left out; `where` is the file
int count_children(const Shapes& tensors, std::string_view prefix, std::string_view where);

/// Length of a tensor's axis.
///
/// Errors   Error(shape) when there is no such tensor, it does not have `rank` axes, or the length
///          is not 1 to 16777216; `where` is the file
int side_of(const Shapes& tensors, std::string_view name, std::size_t rank, std::size_t axis,
            std::string_view where);

}  // namespace klein::weights
