#include <algorithm>
#include <limits>

#include "klein/ops/cpu/convert.h"
#include "klein/ops/cpu/kernel.h"
#include "klein/ops/cpu/native.h"
#include "klein/ops/cpu/tile.h"
#include "klein/ops/portable.h"

namespace klein::ops::native {
namespace {

/// Queries and sums of one task, in floats: they share the second-level cache with a block of keys.
constexpr std::int64_t kTaskFloats = 25600;

/// How the work is cut: one task is a few tokens of all heads that share one head of keys.
struct Plan {
  std::int64_t batch, tokens, keys, heads, kv_heads, width;
  std::int64_t group;                    // heads that share one head of keys
  std::int64_t tokens_per_task, blocks;  // blocks: tasks along the tokens
  std::int64_t panels;                   // panels of a task
  int columns;
};

Plan make_plan(const mx::array& q, const mx::array& k, int columns) {
  Plan p{};
  p.batch = q.shape(0), p.tokens = q.shape(1), p.heads = q.shape(2), p.width = q.shape(3);
  p.keys = k.shape(1), p.kv_heads = k.shape(2);
  p.group = p.heads / p.kv_heads;
  p.columns = columns;
  const auto cut = [&](std::int64_t rows) {
    const auto most = std::max<std::int64_t>(rows / p.group, 1);
    p.blocks = (p.tokens + most - 1) / most;
    p.tokens_per_task = (p.tokens + p.blocks - 1) / p.blocks;
  };
  auto rows = std::clamp<std::int64_t>(kTaskFloats / p.width / columns, 1, 16) * columns;
  cut(rows);
  // Every thread wants a few tasks, lest one waits for another at the end.
  while (rows > columns && p.batch * p.kv_heads * p.blocks < 3 * thread_count())
    cut(rows = std::max<std::int64_t>(rows / 2 / columns, 1) * columns);
  p.panels = (p.tokens_per_task * p.group + columns - 1) / columns;
  return p;
}

/// Memory of one thread.
struct Workspace {
  explicit Workspace(const Plan& p)
      : queries(size(p.panels * p.width * p.columns)),
        sums(size(p.panels * p.width * p.columns)),
        highest(size(p.panels * p.columns)),
        total(size(p.panels * p.columns)),
        ends(size(p.panels * p.columns)),
        scores(size(kKeyBlock * p.columns)),
        keys(size(kKeyBlock * p.width)),
        values(size(kKeyBlock * p.width)),
        row(size(p.width)) {}

  static std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

  Scratch<float> queries, sums, highest, total;
  Scratch<std::int32_t> ends;
  Scratch<float> scores, keys, values, row;
};

void copy_row(const float* in, float* out, std::int64_t count) {
  std::copy_n(in, count, out);
}
void copy_row(const Bf16* in, float* out, std::int64_t count) {
  widen(in, out, count);
}
void store_row(const float* in, float* out, std::int64_t count) {
  std::copy_n(in, count, out);
}
void store_row(const float* in, Bf16* out, std::int64_t count) {
  narrow(in, out, count);
}

template <typename T>
class Task {
 public:
  Task(const Plan& plan, const Tile& code, const Rows& q, const Rows& k, const Rows& v, float scale,
       const AttentionMask& mask, T* out)
      : p_(plan), code_(code), q_(q), k_(k), v_(v), scale_(scale), mask_(mask), out_(out) {}

  void run(std::int64_t index, const Workspace& w) const {
    const auto block = index % p_.blocks, head = index / p_.blocks % p_.kv_heads;
    const auto batch = index / p_.blocks / p_.kv_heads;
    const auto first = block * p_.tokens_per_task;
    const auto tokens = std::min(p_.tokens_per_task, p_.tokens - first);
    if (tokens <= 0) return;
    const auto rows = tokens * p_.group;
    const auto panels = (rows + p_.columns - 1) / p_.columns;

    load_queries(w, batch, first, head, rows, panels);
    const auto length =
        mask_.key_lengths.empty() ? p_.keys : mask_.key_lengths[static_cast<std::size_t>(batch)];
    const auto end = mask_.causal ? std::min(length, first + tokens) : length;
    for (std::int64_t key = 0; key < end; key += kKeyBlock) {
      const auto count = std::min<std::int64_t>(kKeyBlock, end - key);
      load_keys(w, batch, key, head, count);
      const bool straddles = mask_.causal && key + count > first + 1;
      for (std::int64_t i = 0; i < panels; ++i) absorb(w, i, key, count, straddles);
    }
    store(w, batch, first, head, rows);
  }

 private:
  /// Index among the rows of q (and of the output) of a task's query.
  std::int64_t query_row(std::int64_t batch, std::int64_t first, std::int64_t head,
                         std::int64_t r) const {
    const auto token = first + r / p_.group;
    return (batch * p_.tokens + token) * p_.heads + head * p_.group + r % p_.group;
  }

  void load_queries(const Workspace& w, std::int64_t batch, std::int64_t first, std::int64_t head,
                    std::int64_t rows, std::int64_t panels) const {
    const auto padded = panels * p_.columns;
    std::fill_n(w.sums.data(), padded * p_.width, 0.0f);
    std::fill_n(w.highest.data(), padded, -std::numeric_limits<float>::infinity());
    std::fill_n(w.total.data(), padded, 0.0f);
    for (std::int64_t r = 0; r < padded; ++r) {
      float* column = w.queries.data() + r / p_.columns * p_.width * p_.columns + r % p_.columns;
      const bool real = r < rows;
      if (real) copy_row(q_.row<T>(query_row(batch, first, head, r)), w.row.data(), p_.width);
      for (std::int64_t d = 0; d < p_.width; ++d)
        column[d * p_.columns] = real ? w.row.data()[d] * scale_ : 0.0f;
      w.ends.data()[r] = static_cast<std::int32_t>(first + r / p_.group + 1);
    }
  }

  void load_keys(const Workspace& w, std::int64_t batch, std::int64_t key, std::int64_t head,
                 std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) {
      const auto row = (batch * p_.keys + key + i) * p_.kv_heads + head;
      copy_row(k_.row<T>(row), w.keys.data() + i * p_.width, p_.width);
      copy_row(v_.row<T>(row), w.values.data() + i * p_.width, p_.width);
    }
  }

  void absorb(const Workspace& w, std::int64_t panel, std::int64_t key, std::int64_t count,
              bool straddles) const {
    const auto floats = panel * p_.width * p_.columns, columns = panel * p_.columns;
    const AttentionPanel view = {w.queries.data() + floats, w.sums.data() + floats,
                                 w.highest.data() + columns, w.total.data() + columns,
                                 straddles ? w.ends.data() + columns : nullptr};
    const AttentionKeys keys = {w.keys.data(), w.values.data(), static_cast<int>(count),
                                static_cast<int>(key)};
    code_.absorb(view, keys, static_cast<int>(p_.width), w.scores.data());
  }

  void store(const Workspace& w, std::int64_t batch, std::int64_t first, std::int64_t head,
             std::int64_t rows) const {
    for (std::int64_t r = 0; r < rows; ++r) {
      const float* column = w.sums.data() + r / p_.columns * p_.width * p_.columns + r % p_.columns;
      const float total = w.total.data()[r];
      const float inverse = total == 0.0f ? 0.0f : 1.0f / total;
      for (std::int64_t d = 0; d < p_.width; ++d)
        w.row.data()[d] = column[d * p_.columns] * inverse;
      store_row(w.row.data(), out_ + query_row(batch, first, head, r) * p_.width, p_.width);
    }
  }

  const Plan& p_;
  const Tile& code_;
  const Rows &q_, &k_, &v_;
  float scale_;
  const AttentionMask& mask_;
  T* out_;
};

template <typename T>
void run_attention(const std::vector<mx::array>& in, float scale, const AttentionMask& mask,
                   T* out) {
  const auto& code = tile();
  const auto plan = make_plan(in[0], in[1], code.columns());
  const Rows q(in[0]), k(in[1]), v(in[2]);
  const Task<T> task(plan, code, q, k, v, scale, mask, out);
  const auto tasks = plan.batch * plan.kv_heads * plan.blocks;
  std::vector<Workspace> workspaces;
  for (int i = 0; i < std::min<std::int64_t>(thread_count(), tasks); ++i)
    workspaces.emplace_back(plan);
  parallel_tasks(tasks, [&](std::int64_t index, int thread) {
    task.run(index, workspaces[static_cast<std::size_t>(thread)]);
  });
}

}  // namespace

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const AttentionMask& mask) {
  const auto body = [scale, mask](const std::vector<mx::array>& in, mx::array& out) {
    with_type(out.dtype(),
              [&](auto type) { run_attention(in, scale, mask, out.data<decltype(type)>()); });
  };
  const auto twin = [scale, mask](const std::vector<mx::array>& in) {
    return portable::attention(in[0], in[1], in[2], scale, mask);
  };
  return cpu_kernel("attention", {q, k, v}, q.shape(), q.dtype(), body, twin);
}

}  // namespace klein::ops::native
