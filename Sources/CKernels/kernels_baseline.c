#include "declarations.h"

#define LEVEL baseline
#define TILE_VECTORS 1
#include "kernels.inc"
