// penstock: look at a store, prove it, measure it.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "cli/command.hpp"
#include "cli/interrupt.hpp"
#include "config/load.hpp"
#include "metrics/catalog.hpp"

int main(int argc, char** argv) {
  namespace cli = penstock::cli;
  CLI::App app{"Penstock keeps the KV cache of an LLM on NVMe and restores it.", "penstock"};
  app.footer(
      "Begin with:\n"
      "  penstock doctor --dir /mnt/nvme    is this directory good for a cache, and how fast?\n"
      "  penstock demo --dir /mnt/nvme      save, forget, restore in a new process, compare\n"
      "  penstock stats --dir /mnt/nvme/llm_cache\n"
      "  penstock size --model config.json  what does a token take, and what must a drive give?\n"
      "  penstock simulate trace.jsonl      how large should the cache be?\n"
      "Each command explains itself: penstock demo --help\n"
      "Exit code: 0 good, 1 damage or shortfall found, 2 could not run.");
  bool help_config = false;
  app.add_flag("--help-config", help_config, "Print every key of the configuration and exit");
  bool help_metrics = false;
  app.add_flag("--help-metrics", help_metrics, "Print every metric and exit");
  app.require_subcommand(0, 1);

  int exit_code = cli::kGood;
  cli::watch_interrupts();
  cli::add_demo(app, exit_code);
  cli::add_demo_restore(app, exit_code);
  cli::add_bench(app, exit_code);
  cli::add_doctor(app, exit_code);
  cli::add_ls(app, exit_code);
  cli::add_verify(app, exit_code);
  cli::add_stats(app, exit_code);
  cli::add_top(app, exit_code);
  cli::add_simulate(app, exit_code);
  cli::add_size(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? cli::kGood : cli::kCouldNotRun;
  } catch (const std::exception& error) {  // out of memory, or a JSON value that cannot be
    return cli::could_not_run(error.what());
  }
  if (help_config) {
    std::fputs(penstock::configuration_document().c_str(), stdout);
  } else if (help_metrics) {
    std::fputs(penstock::metrics_document().c_str(), stdout);
  } else if (app.get_subcommands().empty()) {
    std::fputs(app.help().c_str(), stdout);
    return cli::kCouldNotRun;
  }
  return exit_code;
}
