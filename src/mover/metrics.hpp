// What a mover counts. Names are the metric names (see docs/ARCHITECTURE.md); any thread may read.
#pragma once

#include "metrics/counter.hpp"

namespace penstock {

struct MoverMetrics {
  Counter load_jobs, load_chunks_ok, load_chunks_missed, load_chunks_corrupt, load_chunks_failed,
      load_chunks_timeout, load_chunks_cancelled, loaded_bytes, load_micros, load_busy_micros;
  Counter save_jobs, save_chunks_ok, save_chunks_present, save_chunks_dropped, save_chunks_fenced,
      saved_bytes, save_micros;
  // Of the above, through host memory; and between it and the drives.
  Counter local_load_chunks, local_loaded_bytes, local_save_chunks, local_saved_bytes;
  Counter promoted_chunks, promoted_bytes;
  Counter write_behind_chunks, write_behind_bytes, write_behind_present, write_behind_dropped;
  Counter write_behind_taken_bytes, write_behind_ended_bytes;  // their difference is pending
  // What cuFile has moved, sectors and all; and how often it has failed, and was given up.
  Counter cufile_read_bytes, cufile_written_bytes, cufile_failures, cufile_given_up;
  Counter mover_cpu_micros;

  template <typename Visit>  // visit(name, value)
  void visit(Visit&& visit) const {
    visit("load_jobs", load_jobs.value());
    visit("load_chunks_ok", load_chunks_ok.value());
    visit("load_chunks_missed", load_chunks_missed.value());
    visit("load_chunks_corrupt", load_chunks_corrupt.value());
    visit("load_chunks_failed", load_chunks_failed.value());
    visit("load_chunks_timeout", load_chunks_timeout.value());
    visit("load_chunks_cancelled", load_chunks_cancelled.value());
    visit("loaded_bytes", loaded_bytes.value());
    visit("load_micros", load_micros.value());
    visit("load_busy_micros", load_busy_micros.value());
    visit("save_jobs", save_jobs.value());
    visit("save_chunks_ok", save_chunks_ok.value());
    visit("save_chunks_present", save_chunks_present.value());
    visit("save_chunks_dropped", save_chunks_dropped.value());
    visit("save_chunks_fenced", save_chunks_fenced.value());
    visit("saved_bytes", saved_bytes.value());
    visit("save_micros", save_micros.value());
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
    visit("mover_cpu_micros", mover_cpu_micros.value());
  }
};

}  // namespace penstock
