#include "klein/hub/settings.h"

#include <map>

#include <doctest/doctest.h>

#include "unit/io/support.h"

namespace klein::hub {
namespace {

using io::test::error_of;
using io::test::TempDir;

Settings read(std::map<std::string, std::string> variables) {
  variables.try_emplace("HOME", "/nowhere/ann");
  return settings_from([&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST_SUITE("hub/settings") {
  TEST_CASE("without variables the cache is where huggingface_hub keeps it, and nobody asks") {
    const auto settings = read({});
    CHECK(settings.cache == "/nowhere/ann/.cache/huggingface/hub");
    CHECK(settings.endpoint == "https://huggingface.co");
    CHECK(settings.token.empty());
    CHECK(settings.token_source.empty());
    CHECK_FALSE(settings.is_offline);
  }

  TEST_CASE("the nearer variable decides where the cache is") {
    CHECK(read({{"XDG_CACHE_HOME", "/x"}}).cache == "/x/huggingface/hub");
    CHECK(read({{"XDG_CACHE_HOME", "/x"}, {"HF_HOME", "/h"}}).cache == "/h/hub");
    CHECK(read({{"HF_HOME", "/h"}, {"HUGGINGFACE_HUB_CACHE", "/old"}}).cache == "/old");
    CHECK(read({{"HUGGINGFACE_HUB_CACHE", "/old"}, {"HF_HUB_CACHE", "/c"}}).cache == "/c");
  }

  TEST_CASE("paths may hold what a shell would replace") {
    CHECK(read({{"HF_HOME", "~/hf"}}).cache == "/nowhere/ann/hf/hub");
    CHECK(read({{"HF_HOME", "~ann/hf"}}).cache == "~ann/hf/hub");
    CHECK(read({{"HF_HUB_CACHE", "$DISK/hf"}, {"DISK", "/d"}}).cache == "/d/hf");
    CHECK(read({{"HF_HUB_CACHE", "${DISK}s/hf"}, {"DISK", "/d"}}).cache == "/ds/hf");
    for (const char* odd : {"/a$", "/a$NONE/b", "/a${NONE}/b", "/a${HOME", "/a$$"}) {
      CAPTURE(odd);
      CHECK(read({{"HF_HUB_CACHE", odd}}).cache == odd);
    }
  }

  TEST_CASE("a token comes from the variable, else from the file") {
    const TempDir folder;
    const auto file = folder.file("token", " hf_file\n");
    const auto home = folder.path().string();
    CHECK(read({{"HF_HOME", home}}).token == "hf_file");
    CHECK(read({{"HF_HOME", home}}).token_source == file.string());
    CHECK(read({{"HF_TOKEN_PATH", file.string()}}).token == "hf_file");
    CHECK(read({{"HF_HOME", home}, {"HF_TOKEN", "hf_variable"}}).token == "hf_variable");
    CHECK(read({{"HF_TOKEN", "hf_variable"}}).token_source == "HF_TOKEN");
    folder.file("token", "\n");
    CHECK(read({{"HF_HOME", home}}).token.empty());
  }

  TEST_CASE("a token that would begin another line of a request is refused") {
    const auto error = error_of([] { read({{"HF_TOKEN", "a\r\nHost: b"}}); });
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()) ==
          "expected a token of the Hugging Face hub, got a text with blanks or other characters "
          "that none has: HF_TOKEN");
  }

  TEST_CASE("the endpoint loses its slash and must be an http address") {
    CHECK(read({{"HF_ENDPOINT", "http://mirror/"}}).endpoint == "http://mirror");
    CHECK(std::string(error_of([] {
                        read({{"HF_ENDPOINT", "file:///x"}});
                      }).what()) ==
          "expected HF_ENDPOINT to begin with https:// or http://, got \"file:///x\"");
  }

  TEST_CASE("offline is said with the words that huggingface_hub knows") {
    for (const char* yes : {"1", "true", "YES", "on"})
      CHECK(read({{"HF_HUB_OFFLINE", yes}}).is_offline);
    for (const char* no : {"0", "", "no", "2"})
      CHECK_FALSE(read({{"HF_HUB_OFFLINE", no}}).is_offline);
    CHECK(read({{"TRANSFORMERS_OFFLINE", "1"}}).is_offline);
  }
}

}  // namespace
}  // namespace klein::hub
