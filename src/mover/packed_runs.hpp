// The runs of packed copies: between a drive and a parcel, and between a parcel and the pages.
// Mover thread only.
#pragma once

#include "mover/context.hpp"
#include "mover/parcel.hpp"

namespace penstock {

// Gives the chunk a parcel, with its name on it. False: none is free now.
bool take_parcel(MoverContext& context, CopyWork& copy, const Digest& name_space, bool for_load);
// Nobody is interested in what becomes of it.
void drop_parcel(CopyWork& copy) noexcept;

// Starts to read or write blocks of copy.parcel's stored form, from copy.next_block on, through
// `route` (Packed, or Behind), while `keep` more could be started. Null: not now.
Transfer* start_stored(MoverContext& context, Route route, IoOp op, CopyWork& copy, size_t keep);

// Aims a run of raw blocks between the chunk's parcel and its pages: from `first` on, of those that
// end at or before `end`. Null: there are none, or not now. Does not count as I/O.
Transfer* start_move(MoverContext& context, Job& job, size_t chunk, PageMove::Direction direction,
                     uint32_t first, uint64_t end, size_t keep);

// What the packer has made of a copy that is to be written: its blocks, checksums and size. The
// blocks that it does not need stay with the lease until the commit.
void take_packed(MoverContext& context, CopyWork& copy);

}  // namespace penstock
