#pragma once

#include "klein/ops/conv.h"
#include "klein/tensor/mlx.h"

namespace klein::nn {

class Visitor;

/// A convolution with a square kernel and a bias.
///
/// Shapes   x [B, H, W, in] -> [B, H', W', out]
/// Dtype    that of x
/// Weights  weight [out, kernel, kernel, in] (checkpoints hold [out, in, kernel, kernel])
struct Conv2d {
  /// `kernel` 3 keeps the size with a padding of 1, `kernel` 1 needs none.
  Conv2d(int in, int out, int kernel);

  mx::array operator()(const mx::array& x) const;

  mx::array weight;
  mx::array bias;  ///< [out]
};

/// Halves height and width: one row and column of zeros at the bottom and right, then a 3x3
/// convolution with stride 2.
///
/// Source   diffusers downsampling.py, Downsample2D with padding 0
struct Downsample {
  explicit Downsample(int channels);

  mx::array operator()(const mx::array& x) const;
  void visit(Visitor& visitor);

  Conv2d conv;
};

/// Doubles height and width by repeating pixels, then a 3x3 convolution.
///
/// Source   diffusers upsampling.py, Upsample2D
struct Upsample {
  explicit Upsample(int channels);

  mx::array operator()(const mx::array& x) const;
  void visit(Visitor& visitor);

  Conv2d conv;
};

}  // namespace klein::nn
