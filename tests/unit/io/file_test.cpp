#include "klein/io/file.h"

#include <csignal>
#include <set>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit/io/support.h"

namespace fs = std::filesystem;

namespace klein::io {
namespace {

using test::content;
using test::error_of;
using test::message_of;
using test::TempDir;

/// No file may grow beyond `bytes` while this lives: what a full disk is to a program.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_) == 0);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST_SUITE("io/file") {
  TEST_CASE("a text comes back byte for byte, zero bytes and an empty file too") {
    const TempDir dir;
    const std::string text("one\0two\r\n\xff", 10);
    CHECK(read_text(dir.file("a", text)) == text);
    CHECK(read_text(dir.file("empty", "")).empty());
    CHECK(read_text(dir.file("exact", "12345"), 5) == "12345");
  }

  TEST_CASE("what cannot be read is told apart") {
    const TempDir dir;
    dir.file("file", "12345");
    const auto read = [&](std::string_view name) {
      return [&, name] { read_text(dir / name, 4); };
    };
    CHECK(message_of(dir, read("none")) == "expected a file, found none: DIR/none");
    CHECK(error_of(read("none")).kind() == ErrorKind::not_found);
    CHECK(message_of(dir, read("file/below")) == "expected a file, found none: DIR/file/below");
    CHECK(message_of(dir, read(".")) == "expected a file, got a folder: DIR/.");
    CHECK(error_of(read(".")).kind() == ErrorKind::io);
    CHECK(message_of(dir, read("file")) == "expected at most 4 bytes, got a larger file: DIR/file");
    CHECK(error_of(read("file")).kind() == ErrorKind::format);
    CHECK(error_of([] { read_text("/dev/zero", 1000); }).kind() == ErrorKind::format);
  }

  TEST_CASE("a link in a circle is an io error") {
    const TempDir dir;
    fs::create_symlink("loop", dir / "loop");
    const auto error = error_of([&] { read_text(dir / "loop"); });
    CHECK(error.kind() == ErrorKind::io);
    CHECK(std::string(error.what()) ==
          "cannot read the file (Too many levels of symbolic links): " + (dir / "loop").string());
  }

  TEST_CASE("a mapped file shows the bytes and moves without a copy") {
    const TempDir dir;
    MappedFile file = MappedFile::open(dir.file("a", "hello"));
    const std::byte* data = file.data();
    const MappedFile moved = std::move(file);
    CHECK(moved.data() == data);
    CHECK(moved.size() == 5);
    CHECK(moved.path() == dir / "a");
    CHECK(std::string(reinterpret_cast<const char*>(moved.data()), 5) == "hello");
    MappedFile target = MappedFile::open(dir.file("b", "other"));
    target = MappedFile::open(dir / "a");
    CHECK(static_cast<char>(target.bytes()[0]) == 'h');
  }

  TEST_CASE("an empty file maps to nothing") {
    const TempDir dir;
    const MappedFile file = MappedFile::open(dir.file("empty", ""));
    CHECK(file.size() == 0);
    CHECK(file.bytes().empty());
    file.advise(Advice::will_need);
  }

  TEST_CASE("advice beyond the end of a file does nothing") {
    const TempDir dir;
    const std::string text(3 * 4096 + 100, 'x');
    const MappedFile file = MappedFile::open(dir.file("a", text));
    for (const auto advice : {Advice::sequential, Advice::will_need, Advice::dont_need}) {
      file.advise(advice);
      file.advise(advice, 5000, 5000);
      file.advise(advice, text.size() - 1, ~std::uint64_t{0});
      file.advise(advice, ~std::uint64_t{0}, 1);
    }
    CHECK(static_cast<char>(file.bytes().back()) == 'x');
  }

  TEST_CASE(
      "copy on write changes memory, not the file, and giving a page back spares its neighbours") {
    const TempDir dir;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const auto path = dir.file("a", std::string(3 * page, 'x'));
    const MappedFile file = MappedFile::open(path, Access::copy_on_write);
    auto* bytes = const_cast<std::byte*>(file.data());
    bytes[0] = bytes[page] = bytes[2 * page] = std::byte{'y'};
    CHECK(content(path) == std::string(3 * page, 'x'));
    file.advise(Advice::dont_need, page - 1, page + 2);
    CHECK(static_cast<char>(file.bytes()[0]) == 'y');
    CHECK(static_cast<char>(file.bytes()[page]) == 'x');
    CHECK(static_cast<char>(file.bytes()[2 * page]) == 'y');
  }

  TEST_CASE("folders and devices are not mapped") {
    const TempDir dir;
    CHECK(message_of(dir, [&] { MappedFile::open(dir.path()); }) ==
          "expected a file, got a folder: DIR");
    CHECK(message_of(dir, [&] { MappedFile::open("/dev/null"); }) ==
          "expected a regular file, got a device: /dev/null");
    CHECK(error_of([&] { MappedFile::open(dir / "none"); }).kind() == ErrorKind::not_found);
  }
}

TEST_SUITE("io/atomic_file") {
  TEST_CASE("a file has its name only after the commit") {
    const TempDir dir;
    AtomicFile file(dir / "out");
    file.write("hel");
    file.write("lo");
    CHECK(file.size() == 5);
    CHECK(!fs::exists(dir / "out"));
    CHECK(file.commit() == dir / "out");
    CHECK(content(dir / "out") == "hello");
    CHECK(dir.count() == 1);
    CHECK(error_of([&] { file.write("more"); }).kind() == ErrorKind::internal);
    CHECK(error_of([&] { file.commit(); }).kind() == ErrorKind::internal);
  }

  TEST_CASE("without a commit nothing is left, and what was there stays") {
    const TempDir dir;
    dir.file("out", "old");
    for (const auto overwrite : {Overwrite::replace, Overwrite::number}) {
      AtomicFile file(dir / "out", overwrite);
      file.write("new");
    }
    CHECK(dir.count() == 1);
    CHECK(content(dir / "out") == "old");
  }

  TEST_CASE("an existing file is refused, replaced or stepped around") {
    const TempDir dir;
    dir.file("a.png", "old");
    const auto refused = [&] { write_atomically(dir / "a.png", as_bytes("new")); };
    CHECK(message_of(dir, refused) == "expected a new file, but one exists already: DIR/a.png");
    CHECK(error_of(refused).kind() == ErrorKind::usage);
    CHECK(save_new(dir / "a.png", as_bytes("1")) == dir / "a_1.png");
    CHECK(unique_path(dir / "a.png") == dir / "a_2.png");
    CHECK(save_new(dir / "a.png", as_bytes("2")) == dir / "a_2.png");
    CHECK(save_over(dir / "a.png", as_bytes("new")) == dir / "a.png");
    CHECK(content(dir / "a.png") == "new");
    CHECK(content(dir / "a_1.png") == "1");
    CHECK(content(dir / "a_2.png") == "2");
    CHECK(dir.count() == 3);
  }

  TEST_CASE("a file that appears while another is written is not overwritten") {
    const TempDir dir;
    AtomicFile refusing(dir / "a"), stepping(dir / "a", Overwrite::number);
    dir.file("a", "theirs");
    CHECK(message_of(dir, [&] { refusing.commit(); }) ==
          "expected a new file, but one exists already: DIR/a");
    CHECK(stepping.commit() == dir / "a_1");
    CHECK(content(dir / "a") == "theirs");
  }

  TEST_CASE("names without an extension, with two and hidden ones are numbered") {
    const TempDir dir;
    for (const auto* name : {"plain", "two.tar.gz", ".hidden"}) save_new(dir / name, as_bytes("x"));
    CHECK(save_new(dir / "plain", as_bytes("x")) == dir / "plain_1");
    CHECK(save_new(dir / "two.tar.gz", as_bytes("x")) == dir / "two.tar_1.gz");
    CHECK(save_new(dir / ".hidden", as_bytes("x")) == dir / ".hidden_1");
  }

  TEST_CASE("threads that save under one name all get their own") {
    const TempDir dir;
    std::vector<fs::path> names(16);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < names.size(); ++i)
      threads.emplace_back(
          [&, i] { names[i] = save_new(dir / "a.png", as_bytes(std::to_string(i))); });
    for (auto& thread : threads) thread.join();
    CHECK(std::set<fs::path>(names.begin(), names.end()).size() == names.size());
    for (std::size_t i = 0; i < names.size(); ++i) CHECK(content(names[i]) == std::to_string(i));
    CHECK(dir.count() == names.size());
  }

  TEST_CASE("missing folders are made; a file in their place is an error that names the target") {
    const TempDir dir;
    save_new(dir / "x/y/a", as_bytes("1"));
    CHECK(content(dir / "x/y/a") == "1");
    const auto error = error_of([&] { save_new(dir / "x/y/a/b", as_bytes("1")); });
    CHECK(error.kind() == ErrorKind::io);
    CHECK(std::string(error.what()) ==
          "cannot create the folder (Not a directory): " + (dir / "x/y/a/b").string());
  }

  TEST_CASE("a folder that takes no files is an error before anything is written") {
    const TempDir dir;
    const auto act = [] { AtomicFile file("/proc/out.png"); };
    CHECK(error_of(act).kind() == ErrorKind::io);
    CHECK(message_of(dir, act).starts_with("cannot create the file ("));
    CHECK(message_of(dir, act).ends_with("): /proc/out.png"));
  }

  // Permissions do not bind the superuser, for whom the case above stands in.
  TEST_CASE("a protected folder or file is refused" * doctest::skip(::geteuid() == 0)) {
    const TempDir dir;
    fs::create_directory(dir / "locked");
    fs::permissions(dir / "locked", fs::perms::owner_read | fs::perms::owner_exec);
    CHECK(message_of(dir, [&] { save_new(dir / "locked/a", as_bytes("1")); }) ==
          "cannot create the file (Permission denied): DIR/locked/a");
    dir.file("protected", "old");
    fs::permissions(dir / "protected", fs::perms::owner_read);
    CHECK(message_of(dir, [&] { save_over(dir / "protected", as_bytes("1")); }) ==
          "cannot replace the file (Permission denied): DIR/protected");
  }

  TEST_CASE("a full disk is an error that leaves nothing, and the old file alone") {
    const TempDir dir;
    dir.file("old", "old");
    const std::string much(100000, 'x');
    for (const auto& name : {"old", "new"}) {
      const auto save = [&] {
        const FileSizeLimit limit(65536);
        save_over(dir / name, as_bytes(much));
      };
      CHECK(message_of(dir, save) ==
            std::string("cannot write more than 65536 bytes (File too large): DIR/") + name);
      CHECK(error_of(save).kind() == ErrorKind::io);
      CHECK(error_of(save).hint() == "Free some space there, or write to another folder");
    }
    CHECK(dir.count() == 1);
    CHECK(content(dir / "old") == "old");
  }

  TEST_CASE("a program killed in the middle leaves no file of that name") {
    const TempDir dir;
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      AtomicFile file(dir / "out.png");
      file.write("half");
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(!fs::exists(dir / "out.png"));
    CHECK(save_new(dir / "out.png", as_bytes("whole")) == dir / "out.png");
    CHECK(content(dir / "out.png") == "whole");
  }

  TEST_CASE("folders and devices are not replaced, not even through a link") {
    const TempDir dir;
    fs::create_directory(dir / "folder");
    fs::create_symlink("/dev/full", dir / "full.png");
    const auto over = [&](const fs::path& path) {
      return [path] { save_over(path, as_bytes("1")); };
    };
    CHECK(message_of(dir, over(dir / "folder")) ==
          "expected a regular file to write, got a folder: DIR/folder");
    CHECK(message_of(dir, over(dir / "full.png")) ==
          "expected a regular file to write, got a device: DIR/full.png");
    CHECK(message_of(dir, over("/dev/null")) ==
          "expected a regular file to write, got a device: /dev/null");
    CHECK(message_of(dir, over(dir / "folder/")) ==
          "expected the name of a file, got a folder: DIR/folder/");
    CHECK(message_of(dir, over("")) ==
          "expected the name of a file, got a folder: (an empty name)");
    CHECK(error_of(over("/dev/null")).kind() == ErrorKind::io);
  }

  TEST_CASE("replacing follows a link and keeps the permissions") {
    const TempDir dir;
    dir.file("real", "old");
    fs::create_symlink("real", dir / "link");
    ::chmod((dir / "real").c_str(), 0640);
    CHECK(save_over(dir / "link", as_bytes("new")).filename() == "real");
    CHECK(fs::is_symlink(dir / "link"));
    CHECK(content(dir / "real") == "new");
    CHECK(fs::status(dir / "real").permissions() == fs::perms(0640));
  }

  TEST_CASE("a link to nothing counts as a taken name") {
    const TempDir dir;
    fs::create_symlink("nothing", dir / "a");
    CHECK(save_new(dir / "a", as_bytes("1")) == dir / "a_1");
    CHECK(error_of([&] { AtomicFile file(dir / "a"); }).kind() == ErrorKind::usage);
  }

  TEST_CASE("the name may be as long as the system allows") {
    const TempDir dir;
    const std::string name(255, 'n');
    CHECK(save_new(dir / name, as_bytes("1")) == dir / name);
    CHECK(error_of([&] { save_new(dir / (name + "n"), as_bytes("1")); }).kind() == ErrorKind::io);
    CHECK(dir.count() == 1);
  }
}

}  // namespace
}  // namespace klein::io
