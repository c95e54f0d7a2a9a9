#include "declarations.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v3"), min_vector_width(256))), apply_to = function)
#define LEVEL v3
#define LANES_AVX2 1
#define LANES_AVX512 0
#define LANES_BF16 0
#define LANES_AMX 0
#define TILE_VECTORS 1
#include "kernels.inc"
#pragma clang attribute pop
#endif
