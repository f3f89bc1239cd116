#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace klein::hub {

/// Where the hub is, who asks, and where its files are kept.
struct Settings {
  std::filesystem::path cache;                      ///< Holds the folders `models--org--name`.
  std::string endpoint = "https://huggingface.co";  ///< No slash at its end.
  std::string token = {};                           ///< Empty: nobody in particular asks.
  std::string token_source = {};                    ///< Where the token stands, for messages.
  bool is_offline = false;
};

/// The value of an environment variable, or nullptr.
using Environment = std::function<const char*(const char*)>;

/// What the environment says, read as huggingface_hub reads it: HF_HOME (else
/// XDG_CACHE_HOME/huggingface), HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, else the file HF_TOKEN_PATH
/// or HF_HOME/token, HF_HUB_OFFLINE. `~` and `$NAME` in paths stand for what a shell takes them
/// for.
///
/// Errors   Error(usage) for an endpoint that is no http address, and for a token that cannot be
///          sent
/// Source   huggingface_hub, constants.py; utils/_auth.py
Settings settings_from(const Environment& environment);

/// Of this process.
Settings settings_from_environment();

/// `path` with a leading `~` replaced by the user's folder.
std::filesystem::path with_home(const std::string& path, const Environment& environment);

}  // namespace klein::hub
