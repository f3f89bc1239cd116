#pragma once

namespace klein::ops {

/// Who computes the operations of this folder.
enum class Backend {
  native,    ///< Hand-written and oneDNN kernels where this build and device have them.
  portable,  ///< MLX's own operations everywhere; slower, differentiable, the reference of the
             ///< tests.
};

/// Chooses the backend of operations that are built from now on, in every thread.
///
/// Thread   any; graphs that already exist keep what they were built with
void set_backend(Backend backend) noexcept;

/// The backend chosen last; native until someone chooses.
Backend backend() noexcept;

/// Whether this build holds CPU kernels at all.
bool has_cpu_kernels() noexcept;

}  // namespace klein::ops
