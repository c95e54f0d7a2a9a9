#include "declarations.h"

#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("arch=x86-64-v4,avx512bf16,amx-tile,amx-bf16"), min_vector_width(512))), apply_to = function)
#define LEVEL amx
#define LANES_AVX2 0
#define LANES_AVX512 1
#define LANES_BF16 1
#define LANES_AMX 1
#define TILE_VECTORS 4
#include "kernels.inc"
#pragma clang attribute pop
#endif
