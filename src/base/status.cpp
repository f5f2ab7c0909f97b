#include "penstock/status.hpp"

namespace penstock {

std::string_view to_string(Status status) noexcept {
  switch (status) {
    case Status::Ok:
      return "ok";
    case Status::Present:
      return "present";
    case Status::NotFound:
      return "not found";
    case Status::Rejected:
      return "rejected";
    case Status::Busy:
      return "busy";
    case Status::Io:
      return "I/O error";
    case Status::Corrupt:
      return "corrupt";
    case Status::Unsupported:
      return "unsupported";
    case Status::Invalid:
      return "invalid";
    case Status::NoSpace:
      return "no space";
    case Status::Timeout:
      return "timeout";
    case Status::Cancelled:
      return "cancelled";
    case Status::Closed:
      return "closed";
  }
  return "unknown";
}

}  // namespace penstock
