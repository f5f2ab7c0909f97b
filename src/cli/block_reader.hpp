// BlockReader: reads many blocks of files, some of them in flight at a time, in memory of its own.
//
// Completions come in any order. Bounded: read() waits for an earlier block when all slots are
// taken. One thread; visit() must not call back into the reader.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "io/io_engine.hpp"

namespace penstock::cli {

class BlockReader {
 public:
  // `bytes` are empty when status is not Ok, and only valid during the call.
  using Visit = std::function<void(uint64_t tag, Status status, std::span<const std::byte> bytes)>;

  static Result<std::unique_ptr<BlockReader>> create(uint64_t max_size, Visit visit);

  // Offset and size are multiples of kSector, size at most max_size.
  void read(uint64_t tag, int fd, uint64_t offset, uint64_t size);
  void finish();  // until all have been visited

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  BlockReader(std::unique_ptr<std::byte, Free> memory, size_t slots, uint64_t max_size,
              std::unique_ptr<IoEngine> io, Visit visit);
  void reap();
  void wait_for_one();

  // The engine waits for requests in flight when it goes, so it goes before their memory.
  std::unique_ptr<std::byte, Free> memory_;
  std::vector<IoRequest> requests_;
  std::vector<IoRequest*> free_;
  Visit visit_;
  std::unique_ptr<IoEngine> io_;
};

}  // namespace penstock::cli
