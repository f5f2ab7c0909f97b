// leaf_hash compiled for AVX2; chosen at run time.
#define LEAF_HASH_NAME leaf_hash_avx2
#include "base/leaf_hash.inc"
