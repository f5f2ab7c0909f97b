"""Names of lmcache.v1.cache_engine."""

from penstock.compat.lmcache.backends import CacheBackend
from penstock.compat.lmcache.builder import LMCacheEngineBuilder
from penstock.compat.lmcache.engine import LMCacheEngine

__all__ = ["CacheBackend", "LMCacheEngine", "LMCacheEngineBuilder"]
