// Ctrl-C asks a command to stop, so that it removes what it made; a second one ends it at once.
#pragma once

namespace penstock::cli {

void watch_interrupts() noexcept;
bool interrupted() noexcept;  // any thread

}  // namespace penstock::cli
