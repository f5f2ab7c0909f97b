#include "engine/test_fault.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <sstream>

#include "base/log.hpp"
#include "io/fault_engine.hpp"

namespace penstock {
namespace {

Result<Fault> parse(const std::string& text) {
  std::istringstream stream{text};
  std::string op, number, kind;
  std::getline(stream, op, ':');
  std::getline(stream, number, ':');
  std::getline(stream, kind);
  Fault fault;
  const bool known_op = op == "read" || op == "write";
  fault.only = op == "read" ? IoOp::Read : IoOp::Write;
  fault.onwards = number.ends_with('+');
  fault.operation = std::strtoull(number.c_str(), nullptr, 10);
  if (kind == "stuck") {
    fault.kind = FaultKind::Stick;
  } else if (kind == "corrupt") {
    fault.kind = FaultKind::Corrupt;
  } else if (kind == "short") {
    fault.kind = FaultKind::Shorten;
    fault.bytes = 512;
  } else if (kind == "delay") {
    fault.kind = FaultKind::Delay;
    fault.delay = std::chrono::milliseconds{20};
  } else if (kind == "enospc") {
    fault.error_number = ENOSPC;
  } else if (kind != "eio" || !known_op || fault.operation == 0) {
    return Error{Status::Invalid,
                 fmt::format("PENSTOCK_TEST_FAULT={}: expected <read|write>:<n>[+]:"
                             "<eio|enospc|short|delay|stuck|corrupt>",
                             text)};
  }
  return fault;
}

}  // namespace

Result<std::unique_ptr<IoEngine>> with_test_fault(std::unique_ptr<IoEngine> engine) {
  const char* text = std::getenv("PENSTOCK_TEST_FAULT");
  if (text == nullptr) return engine;
  auto fault = parse(text);
  if (!fault) return fault.take_error();
  log(LogLevel::Warning, fmt::format("I/O faults are injected: PENSTOCK_TEST_FAULT={}", text));
  return std::unique_ptr<IoEngine>{
      std::make_unique<FaultEngine>(std::move(engine), std::vector<Fault>{*fault})};
}

}  // namespace penstock
