// What a mover counts: figures by the names that metrics/catalog.cpp knows. Any thread may read.
#pragma once

#include <array>
#include <string>

#include "metrics/counter.hpp"
#include "metrics/gauge.hpp"
#include "metrics/histogram.hpp"

namespace penstock {

// One way of the bytes, in one direction.
struct PathMetrics {
  Histogram seconds;
  Counter bytes, errors;

  void count(std::chrono::nanoseconds took, uint64_t moved, bool good) noexcept {
    seconds.observe(took);
    if (good) bytes.add(moved);
    if (!good) errors.add();
  }
};

struct MoverMetrics {
  Counter load_jobs, load_chunks_ok, load_chunks_missed, load_chunks_corrupt, load_chunks_failed,
      load_chunks_timeout, load_chunks_cancelled, load_chunks_reread, loaded_bytes,
      load_busy_micros;
  Counter save_jobs, save_chunks_ok, save_chunks_present, save_chunks_dropped, save_chunks_fenced,
      saved_bytes;
  // Of the above, through host memory; and between it and the drives.
  Counter local_load_chunks, local_loaded_bytes, local_save_chunks, local_saved_bytes;
  Counter promoted_chunks, promoted_bytes;
  Counter write_behind_chunks, write_behind_bytes, write_behind_present, write_behind_dropped;
  Counter write_behind_taken_bytes, write_behind_ended_bytes;  // their difference is pending
  // What cuFile has moved, sectors and all; and how often it has failed, and was given up.
  Counter cufile_read_bytes, cufile_written_bytes, cufile_failures, cufile_given_up;
  // Copies that were packed on their way to a drive, their bytes before and after; those that were
  // not worth it; and those that were unpacked and loaded.
  Counter packed_chunks, packed_raw_bytes, packed_bytes, unpackable_chunks, unpacked_chunks;
  Counter mover_cpu_micros;
  Histogram load_seconds, save_seconds;   // of jobs
  PathMetrics io_read, io_write;          // requests to drives
  PathMetrics memory_read, memory_write;  // runs between host memory that is a tier and pages
  Gauge io_in_flight, load_jobs_open, save_jobs_open;

  template <typename Visit>  // visit(name, value)
  void visit(Visit&& visit) const {
    visit("load_jobs", load_jobs.value());
    visit("load_chunks_ok", load_chunks_ok.value());
    visit("load_chunks_missed", load_chunks_missed.value());
    visit("load_chunks_corrupt", load_chunks_corrupt.value());
    visit("load_chunks_failed", load_chunks_failed.value());
    visit("load_chunks_timeout", load_chunks_timeout.value());
    visit("load_chunks_cancelled", load_chunks_cancelled.value());
    visit("load_chunks_reread", load_chunks_reread.value());
    visit("loaded_bytes", loaded_bytes.value());
    visit("load_busy_micros", load_busy_micros.value());
    visit("save_jobs", save_jobs.value());
    visit("save_chunks_ok", save_chunks_ok.value());
    visit("save_chunks_present", save_chunks_present.value());
    visit("save_chunks_dropped", save_chunks_dropped.value());
    visit("save_chunks_fenced", save_chunks_fenced.value());
    visit("saved_bytes", saved_bytes.value());
    visit("local_load_chunks", local_load_chunks.value());
    visit("local_loaded_bytes", local_loaded_bytes.value());
    visit("local_save_chunks", local_save_chunks.value());
    visit("local_saved_bytes", local_saved_bytes.value());
    visit("promoted_chunks", promoted_chunks.value());
    visit("promoted_bytes", promoted_bytes.value());
    visit("write_behind_chunks", write_behind_chunks.value());
    visit("write_behind_bytes", write_behind_bytes.value());
    visit("write_behind_present", write_behind_present.value());
    visit("write_behind_dropped", write_behind_dropped.value());
    const uint64_t ended = write_behind_ended_bytes.value();  // first: it is never the larger one
    visit("write_behind_pending_bytes", write_behind_taken_bytes.value() - ended);
    visit("cufile_read_bytes", cufile_read_bytes.value());
    visit("cufile_written_bytes", cufile_written_bytes.value());
    visit("cufile_failures", cufile_failures.value());
    visit("cufile_given_up", cufile_given_up.value());
    visit("packed_chunks", packed_chunks.value());
    visit("packed_raw_bytes", packed_raw_bytes.value());
    visit("packed_bytes", packed_bytes.value());
    visit("unpackable_chunks", unpackable_chunks.value());
    visit("unpacked_chunks", unpacked_chunks.value());
    visit("mover_cpu_micros", mover_cpu_micros.value());
    visit("io_in_flight", io_in_flight.value());
    visit("load_jobs_open", load_jobs_open.value());
    visit("save_jobs_open", save_jobs_open.value());
    load_seconds.visit("load_seconds", visit);
    save_seconds.visit("save_seconds", visit);
    visit_path("io_read", io_read, visit);
    visit_path("io_write", io_write, visit);
    visit_path("memory_read", memory_read, visit);
    visit_path("memory_write", memory_write, visit);
  }

 private:
  template <typename Visit>
  static void visit_path(const std::string& name, const PathMetrics& path, Visit&& visit) {
    path.seconds.visit(name + "_seconds", visit);
    visit(name + "_bytes", path.bytes.value());
    visit(name + "_errors", path.errors.value());
  }
};

}  // namespace penstock
