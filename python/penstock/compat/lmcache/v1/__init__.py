"""Names of lmcache.v1."""
