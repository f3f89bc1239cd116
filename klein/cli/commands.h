#pragma once

namespace CLI {
class App;
}

namespace klein::cli {

struct Context;

/// Each adds one sub-command to `app`; parsing it runs it, and its errors are klein::Error.
/// `context` has to outlive `app`.
void add_generate_command(CLI::App& app, Context& context);
void add_edit_command(CLI::App& app, Context& context);
void add_inpaint_command(CLI::App& app, Context& context);
void add_tokenize_command(CLI::App& app, Context& context);
void add_bench_command(CLI::App& app, Context& context);
void add_save_command(CLI::App& app, Context& context);
void add_info_command(CLI::App& app, Context& context);
void add_models_command(CLI::App& app, Context& context);
void add_lora_command(CLI::App& app, Context& context);
void add_completions_command(CLI::App& app, Context& context);

}  // namespace klein::cli
