// The docstrings of penstock._core: shapes, units, errors and thread rules, for help(), editors
// (the stub) and the site's page on the Python API.
#pragma once

namespace penstock::python::docs {

inline constexpr const char* kConfig =
    "A checked configuration; a value.\n\n"
    "Every key is described in docs/CONFIGURATION.md; those of gds_config are attributes here, "
    "those "
    "of local_config begin with `local_`. Any thread.";
inline constexpr const char* kFromEntries =
    "Makes a configuration from entries and the PENSTOCK_* variables of the environment, which "
    "win.\n\n"
    "Args:\n"
    "    entries: (path, values, is_list) each, e.g. (\"gds_config.cache_dir\", [\"/mnt/nvme\"], "
    "True); the values are text. `penstock.config.entries_of` makes them from a dict or a file.\n\n"
    "Raises:\n"
    "    PenstockError: an unknown key, a wrong type or a value out of range; the message names "
    "the "
    "key, the value and what is expected.";

inline constexpr const char* kLookup = "A lookup that is under way. One thread.";
inline constexpr const char* kLookupWait =
    "Waits for the answer, at most `timeout_us` microseconds; 0 asks only.\n\n"
    "Returns:\n"
    "    Chunks, from the first on, that can be loaded; None while it is not known. A store that "
    "has "
    "failed answers 0.";
inline constexpr const char* kLookupRuns =
    "Where the chunks lie, from fast to slow: (tier, chunks) each, tier \"local\" or \"gds\".\n\n"
    "A run ends behind the one before it: chunks up to `chunks` can be had from this tier and "
    "faster "
    "ones. Before wait() has an answer: what is known by now.";

inline constexpr const char* kLookupHeldBy =
    "Chunks, from the first on, that a tier (\"local\" or \"gds\") holds itself; 0 before it has "
    "answered.\n\n"
    "Raises:\n"
    "    ValueError: there is no such tier.";

inline constexpr const char* kJobResult =
    "What came of a job; a value.\n\n"
    "Attributes:\n"
    "    id: what submit() returned.\n"
    "    kind: \"save\" or \"load\".\n"
    "    status: \"ok\", or the status of the first chunk that is not.\n"
    "    chunk_status: one for each chunk of the request, in its order. \"ok\": the pages (load) "
    "or "
    "the store (save) hold exactly these bytes. The rows of any other chunk of a load hold "
    "undefined "
    "bytes.\n"
    "    bytes: payload of the chunks that are ok.\n"
    "    seconds: from submit() to completion.";

inline constexpr const char* kEngine =
    "Saves chunks of KV from registered pages into the store, and loads them back.\n\n"
    "A job completes exactly once, within its deadline, with a status for each chunk; memory "
    "outside "
    "the rows of a job is never written. No failure of a drive is an exception: it is a miss "
    "(load) or "
    "a dropped chunk (save), and a counter. All calls may come from any thread and let go of the "
    "GIL "
    "where they wait. After close(), and in a child after a fork, every call raises PenstockError.";
inline constexpr const char* kOpen =
    "Opens, or shares, the store of `config.cache_dir`.\n\n"
    "Args:\n"
    "    config: see Config.from_entries.\n"
    "    layouts: (rows_per_chunk, regions) for each group of layers that share block ids; a "
    "region "
    "is (base, rows, row_stride, page_bytes, layer, element_bytes): address of row 0, number of "
    "rows, bytes from a row to the next, contiguous bytes of a row, index of the layer in its "
    "group, bytes of a number (for compression; 1 if in doubt). The memory is the caller's and "
    "outlives the engine. An empty list: an engine that only looks things up.\n"
    "    device: where that memory lies: \"cpu\" or \"cuda:N\".\n\n"
    "Raises:\n"
    "    PenstockError: the directory cannot be used, a region overlaps another or is not memory "
    "of "
    "the device, or there is no such device; the message says what to change.";
inline constexpr const char* kOpenNamespace =
    "The id of a namespace of the store; copies are found only in the namespace that they were "
    "saved "
    "in.\n\n"
    "Args:\n"
    "    digest: 32 bytes that stand for everything besides the tokens that must match: model, "
    "dtype, layout, parallelism.\n"
    "    description: text for people, stored beside it.\n\n"
    "Waits for the index, at most 5 s.\n\n"
    "Raises:\n"
    "    PenstockError: the index does not answer.";
inline constexpr const char* kLookupCall =
    "Asks for the longest prefix of `chain` that can be loaded. Never waits.\n\n"
    "Args:\n"
    "    ns: from open_namespace().\n"
    "    chain: the keys of a prompt's chunks from its first on, 32 bytes each.\n"
    "    groups: (group, shards, window_chunks) each: all shards must be there; window_chunks 0 "
    "means "
    "every chunk (full attention), n the last n chunks only.";
inline constexpr const char* kSubmit =
    "Queues a job and returns its id; None if the queue is full. Never waits.\n\n"
    "Args:\n"
    "    kind: \"save\" or \"load\".\n"
    "    ns: from open_namespace().\n"
    "    shard: which part of a copy this process holds, e.g. its tensor-parallel rank.\n"
    "    keys, parents: 32 bytes for each chunk, parents before children; the parent of a chain's "
    "first chunk is 32 zero bytes.\n"
    "    groups: the group of each chunk.\n"
    "    rows: for each chunk in turn rows_per_chunk of its group; -1: neither read nor written.\n"
    "    layerwise: read layer after layer over all chunks.\n"
    "    deadline_s: seconds; 0: the configured one.\n"
    "    stream: handle of a CUDA stream (`torch.cuda.current_stream().cuda_stream`): the pages "
    "are "
    "touched after what has been given to it so far. None: the caller has synchronized.\n\n"
    "Raises:\n"
    "    PenstockError: a group, row or count is wrong.\n"
    "    ValueError: lists that do not fit each other.";
inline constexpr const char* kPoll =
    "Takes the results of the jobs that have completed since the last call. Never waits.";
inline constexpr const char* kWait =
    "Waits until poll() has something to return; False after `timeout_s` seconds.";
inline constexpr const char* kCancel =
    "Ends a job early: its unfinished chunks are \"cancelled\". Unknown ids are ignored.";
inline constexpr const char* kLayersReady =
    "Layers of a load that are complete, in order; all of them once the job has completed.";
inline constexpr const char* kWaitLayer =
    "Waits, at most `timeout_s` seconds, until `layer` of a load is complete or the job has ended.";
inline constexpr const char* kReleaseRows =
    "The fence before rows get a new owner: when it returns, no save reads any of `rows` of "
    "`group` "
    "any more; on a GPU, not before what is given to `stream` from then on.\n\n"
    "Chunks whose pages had not been read yet are \"cancelled\". Waits for the copy of one block "
    "at "
    "most, on a GPU for a launch; without a stream, for the kernels that read.";
inline constexpr const char* kWaitLayerOnStream =
    "Makes a GPU's `stream` wait instead of the caller, until the layer is complete or the job has "
    "ended, also when it fails.\n\n"
    "Returns:\n"
    "    False: the pages are the host's, and nothing waits.";
inline constexpr const char* kProbeDrives =
    "Reads about `bytes` of what is stored, and throws it away: (bytes, seconds). Waits for the "
    "drives.\n\n"
    "Returns:\n"
    "    None: the store is empty.";
inline constexpr const char* kMetrics =
    "All counters and figures, by name. Any thread; never waits.";
inline constexpr const char* kSamples =
    "The same as Prometheus names it, see docs/METRICS.md.\n\n"
    "Returns:\n"
    "    {'penstock_load_bytes_total{tier=\"gds\"}': 0.0, ...}; histograms as _bucket, _sum "
    "and _count. `penstock.metrics.parse` takes a name apart.";
inline constexpr const char* kMetricCatalog =
    "(name, type, scope, help, [(labels, figure), ...]) for each metric of docs/METRICS.md.";
inline constexpr const char* kStartTrace =
    "Records what the engines of this process do, anew; the last `events` are kept. Any thread.";
inline constexpr const char* kStopTrace = "Ends it: the trace as JSON for ui.perfetto.dev.";
inline constexpr const char* kFacts =
    "What was chosen at open, and why, by name: \"io_engine\", \"io_reason\", \"direct\", ...";
inline constexpr const char* kBlockSize =
    "Bytes of a block of the store: unit of allocation and I/O.";
inline constexpr const char* kClose =
    "Completes every job (\"closed\") and ends the engine's threads. A second call does nothing.";

inline constexpr const char* kError =
    "An error of the core. The message says what was wrong and what to do; `status` is one of "
    "\"invalid\", \"unsupported\", \"busy\", \"I/O error\", ...";
inline constexpr const char* kRawRead =
    "GB/s of the raw ceiling: O_DIRECT reads of 1 MiB, `depth` in flight, of `size` bytes from "
    "`offset` on.\n\n"
    "Raises:\n"
    "    PenstockError: the file cannot be read like that.";

}  // namespace penstock::python::docs
