#pragma once

#include <exception>

#include "klein/core/error.h"
#include "klein/core/progress.h"
#include "klein/engine/engine.h"
#include "klein/engine/find_model.h"
#include "klein/models/flux2/checkpoint.h"
#include "klein/models/flux2/model_files.h"

namespace klein {

/// What a foreign exception means: Error(memory) or Error(internal).
Error error_from(const std::exception& e);

/// Foreign exceptions become ours, once, at the border of the library.
template <typename Work>
auto translated(Work&& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    throw error_from(e);
  }
}

/// The files of a model that was found, with the parts that the options replace.
flux2::ModelFiles model_files(const EngineOptions& options, const ModelLocation& location,
                              const FindOptions& find);

flux2::LoadOptions load_options(const EngineOptions& options);

}  // namespace klein
