#include "klein/hub/snapshot.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "klein/core/error.h"
#include "klein/hub/cache.h"
#include "klein/hub/listing.h"
#include "klein/hub/names.h"
#include "klein/hub/session.h"
#include "klein/io/file.h"
#include "klein/io/text.h"

namespace klein::hub {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kThreads = 4;
constexpr auto kReportPause = std::chrono::milliseconds(100);
constexpr std::uint64_t kMaxReadBytes = std::uint64_t{64} << 20;

std::uint64_t size_on_disk(const fs::path& path) {
  std::error_code error;
  const auto bytes = fs::file_size(path, error);
  return error ? 0 : bytes;
}

/// One file that has to come, and how many of its bytes were counted as missing.
struct Job {
  std::string name;
  std::int64_t missing_bytes = 0;
};

/// Brings files of one commit into the cache.
class Fetch {
 public:
  Fetch(const Wanted& wanted, const Settings& settings, const ProgressCallback& progress)
      : repo_(wanted.repo),
        settings_(settings),
        progress_(progress),
        cache_(settings.cache, repo_) {}

  fs::path operator()(const Wanted& wanted) {
    const MayGoOn poll = [this] { return report(); };
    listing_ = Session(settings_, repo_, poll).list(wanted.revision);
    const auto folder = cache_.snapshot(listing_.commit);
    FileTree tree{.where = repo_, .names = {}, .read = [&](const std::string& name) {
                    if (listing_.files.at(name).bytes > kMaxReadBytes)
                      throw Error(
                          ErrorKind::format,
                          fmt::format("expected a file of at most {} bytes, got {}: {}/{}",
                                      kMaxReadBytes, listing_.files.at(name).bytes, repo_, name));
                    Session session(settings_, repo_, poll);
                    bring(session, {name, 0}, poll);
                    return io::read_text(folder / name, kMaxReadBytes);
                  }};
    for (const auto& [name, file] : listing_.files) tree.names.insert(name);
    bring_all(wanted.choose(tree));
    cache_.write_ref(wanted.revision, listing_.commit);
    return folder;
  }

 private:
  bool report() {
    return !progress_ || progress_({.stage = Stage::download, .done = done_, .total = total_});
  }

  bool is_there(const std::string& name) const {
    const auto& file = listing_.files.at(name);
    return cache_.is_linked(listing_.commit, name, file.etag) &&
           size_on_disk(cache_.blob(file.etag)) == file.bytes;
  }

  /// One file, with the blob's lock: whoever had it before may have brought the file.
  void bring(Session& session, const Job& job, const MayGoOn& may_go_on) {
    if (is_there(job.name)) {
      done_ += job.missing_bytes;
      return;
    }
    const auto& file = listing_.files.at(job.name);
    const FileLock lock(cache_.lock(file.etag), may_go_on);
    std::error_code error;
    const auto blob = cache_.blob(file.etag);
    if (fs::exists(blob, error) && size_on_disk(blob) == file.bytes) {
      done_ += job.missing_bytes;
    } else {
      const auto left =
          file.bytes - std::min(size_on_disk(cache_.incomplete(file.etag)), file.bytes);
      total_ += static_cast<std::int64_t>(left) - job.missing_bytes;
      // Bytes that are taken back have to come again: the total grows, what is done stays.
      session.download(listing_, job.name, cache_, [this](std::int64_t bytes) {
        if (bytes > 0)
          done_ += bytes;
        else
          total_ -= bytes;
      });
    }
    cache_.link(listing_.commit, job.name, file.etag);
  }

  std::vector<Job> missing_of(const std::vector<std::string>& names) const {
    std::vector<Job> jobs;
    std::set<std::string> etags;
    for (const auto& name : names) {
      if (!listing_.files.contains(name))
        throw Error(ErrorKind::not_found, fmt::format("expected the file {} in the repository, "
                                                      "found none: {}",
                                                      io::printable(name), repo_));
      if (is_there(name)) continue;
      const auto& file = listing_.files.at(name);
      const bool is_first = etags.insert(file.etag).second;
      const bool has_blob = size_on_disk(cache_.blob(file.etag)) == file.bytes;
      const auto begun = std::min(size_on_disk(cache_.incomplete(file.etag)), file.bytes);
      jobs.push_back(
          {name, has_blob || !is_first ? 0 : static_cast<std::int64_t>(file.bytes - begun)});
    }
    // The largest first: the last file to end should be a short one.
    std::ranges::stable_sort(jobs, std::greater(), &Job::missing_bytes);
    return jobs;
  }

  void expect_space() const {
    std::error_code error;
    make_folder(cache_.folder());
    const auto space = fs::space(cache_.folder(), error);
    const auto needed = static_cast<std::uintmax_t>(total_ - done_);
    if (error || needed <= space.available) return;
    throw Error(ErrorKind::io,
                fmt::format("expected {:.2f} GB of free space for {}, found {:.2f} GB: {}",
                            static_cast<double>(needed) / 1e9, repo_,
                            static_cast<double>(space.available) / 1e9, settings_.cache.string()),
                "Free some space there, or set HF_HUB_CACHE to a folder on another disk.");
  }

  void bring_all(const std::vector<std::string>& names) {
    jobs_ = missing_of(names);
    for (const auto& job : jobs_) total_ += job.missing_bytes;
    if (jobs_.empty()) return;
    expect_space();
    make_folder(cache_.snapshot(listing_.commit));  // huggingface_hub warns of blobs without one
    (void)report();
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < std::min(kThreads, jobs_.size()); ++i) start(threads);
    watch();
    for (auto& thread : threads) thread.join();
    if (error_) std::rethrow_exception(error_);
    (void)report();
  }

  void start(std::vector<std::thread>& threads) {
    ++running_;
    try {
      threads.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      --running_;  // fewer threads do as well, none do not
      if (threads.empty())
        throw Error(ErrorKind::io, fmt::format("cannot start a thread ({})", error.what()));
    }
  }

  /// The caller's thread: it alone talks to `progress_`.
  void watch() {
    while (running_ > 0) {
      try {
        if (!report()) is_stopped_ = true;
      } catch (...) {
        fail(std::current_exception());
      }
      std::this_thread::sleep_for(kReportPause);
    }
  }

  void work() {
    try {
      const MayGoOn may_go_on = [this] { return !is_stopped_; };
      Session session(settings_, repo_, may_go_on);
      for (auto i = next_++; i < jobs_.size(); i = next_++) bring(session, jobs_[i], may_go_on);
    } catch (...) {
      fail(std::current_exception());
    }
    --running_;
  }

  /// The first error is the one that is told; the others only follow from it.
  void fail(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    is_stopped_ = true;
  }

  const std::string& repo_;
  const Settings& settings_;
  const ProgressCallback& progress_;
  RepoCache cache_;
  Listing listing_;
  std::vector<Job> jobs_;
  std::atomic<std::size_t> next_ = 0, running_ = 0;
  std::atomic<std::int64_t> done_ = 0, total_ = 0;
  std::atomic<bool> is_stopped_ = false;
  std::mutex mutex_;
  std::exception_ptr error_;
};

bool is_complete(const RepoCache& cache, const std::string& commit, const Choose& choose) {
  const auto files = cache.files(commit);
  FileTree tree{
      .where = cache.snapshot(commit).string(), .names = {}, .read = [&](const std::string& name) {
        return io::read_text(files.at(name), kMaxReadBytes);
      }};
  for (const auto& [name, path] : files) tree.names.insert(name);
  try {
    return std::ranges::all_of(choose(tree),
                               [&](const auto& name) { return files.contains(name); });
  } catch (const Error&) {
    return false;  // whatever is wrong with it, it is not what was wanted
  }
}

[[noreturn]] void refuse_offline(const std::string& repo, const Settings& settings) {
  throw Error(
      ErrorKind::not_found,
      fmt::format("expected {} in the cache, since HF_HUB_OFFLINE forbids to ask the hub, "
                  "found {}: {}",
                  repo, has_part_of(repo, settings) ? "a part" : "none", settings.cache.string()),
      "Unset HF_HUB_OFFLINE to download it.");
}

}  // namespace

fs::path snapshot(const Wanted& wanted, const Settings& settings,
                  const ProgressCallback& progress) {
  if (!is_repo_id(wanted.repo))
    throw Error(ErrorKind::usage,
                fmt::format("expected a repository's name such as org/name, got: {}", wanted.repo));
  if (!settings.is_offline) return Fetch(wanted, settings, progress)(wanted);
  if (auto folder = cached_snapshot(wanted, settings)) return *folder;
  refuse_offline(wanted.repo, settings);
}

std::vector<NeededFile> plan(const Wanted& wanted, const Settings& settings,
                             const ProgressCallback& progress) {
  if (settings.is_offline) refuse_offline(wanted.repo, settings);
  const MayGoOn may_go_on = [&] {
    return !progress || progress({.stage = Stage::download, .done = 0, .total = 0});
  };
  Session session(settings, wanted.repo, may_go_on);
  const auto listing = session.list(wanted.revision);
  FileTree tree{.where = wanted.repo, .names = {}, .read = [&](const std::string& name) {
                  return session.read(listing, name);
                }};
  for (const auto& [name, file] : listing.files) tree.names.insert(name);
  const RepoCache cache(settings.cache, wanted.repo);
  std::vector<NeededFile> files;
  for (const auto& name : wanted.choose(tree)) {
    const auto& file = listing.files.at(name);
    files.push_back({name, file.bytes, size_on_disk(cache.blob(file.etag)) == file.bytes});
  }
  return files;
}

std::optional<fs::path> cached_snapshot(const Wanted& wanted, const Settings& settings) {
  if (!is_repo_id(wanted.repo)) return std::nullopt;
  const RepoCache cache(settings.cache, wanted.repo);
  // The ref is written last: a snapshot without one may be the beginning of a download.
  const auto commit = cache.commit_of(wanted.revision);
  if (!commit || !is_complete(cache, *commit, wanted.choose)) return std::nullopt;
  return cache.snapshot(*commit);
}

bool has_part_of(const std::string& repo, const Settings& settings) {
  std::error_code error;
  const auto blobs = RepoCache(settings.cache, repo).folder() / "blobs";
  return fs::is_directory(blobs, error) && !fs::is_empty(blobs, error);
}

}  // namespace klein::hub
