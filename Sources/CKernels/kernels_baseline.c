#include "declarations.h"

#define LEVEL baseline
#define LANES_AVX2 0
#define LANES_AVX512 0
#define LANES_BF16 0
#define LANES_AMX 0
#define TILE_VECTORS 1
#include "kernels.inc"
