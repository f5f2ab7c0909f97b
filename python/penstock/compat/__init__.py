"""Penstock under the names of other projects, for code that was written for those."""
