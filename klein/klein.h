#pragma once

/// The public face of klein: load a model, ask for pictures, save them.
///
///   klein::Engine engine({.model = "demo"});
///   const auto result = engine.generate({.prompt = "a red apple", .seed = 7});
///   klein::io::save_new("apple.png", klein::io::encode(result.images.front(),
///                                                      klein::io::ImageFormat::png));

#include "klein/core/error.h"
#include "klein/core/options.h"
#include "klein/core/progress.h"
#include "klein/engine/describe_model.h"
#include "klein/engine/engine.h"
#include "klein/io/file.h"
#include "klein/io/image.h"
#include "klein/io/picture.h"
#include "klein/pipeline/request.h"
#include "klein/pipeline/save_request.h"
