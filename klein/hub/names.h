#pragma once

#include <string_view>

namespace klein::hub {

/// Whether a text has the form "org/name" that the hub allows for a repository.
bool is_repo_id(std::string_view text);

/// Whether a text is the name of a commit: 40 hex digits, lower case.
bool is_commit(std::string_view text);

/// Whether a text names a file's content: 40 hex digits (git) or 64 (SHA-256), lower case.
bool is_etag(std::string_view text);

/// Whether a file name of the hub stays inside of the folder it is joined to: parts between single
/// slashes, none of them empty, "." or "..", no backslash and no control character.
bool is_inside(std::string_view path);

}  // namespace klein::hub
