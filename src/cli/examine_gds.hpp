// What `penstock doctor` finds out about cuFile between a directory and a GPU: what the machine
// offers, the probe's verdict, and what to change. Runs the probe (seconds); reads /proc, /sys and
// /run otherwise. One thread.
#pragma once

#include <string>
#include <vector>

#include "cli/machine.hpp"
#include "io/cufile_host.hpp"
#include "io/cufile_verdict.hpp"

namespace penstock::cli {

struct GdsExamination {
  CufileHost host;
  std::string driver;             // "580.159.04, open modules"; empty: none
  std::string nvidia_fs;          // version of the module; empty: not loaded
  std::vector<std::string> bar1;  // a GPU each: "0000:3b:00.0 262144 MiB"
  // What P2PDMA (the way without nvidia-fs) needs and does not have here; empty: nothing known.
  std::vector<std::string> p2pdma_lacks;
  CufileVerdict verdict;
  std::vector<std::string> advice;
};

// `system_root` stands before /proc, /sys, /run and /dev; for tests.
GdsExamination examine_gds(const std::string& directory, const std::string& gpu, const Mount& mount,
                           const std::string& system_root = "");
void print(const GdsExamination& found);
Json to_json(const GdsExamination& found);

}  // namespace penstock::cli
