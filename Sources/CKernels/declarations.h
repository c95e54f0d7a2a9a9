// What every translation unit of this target needs before its target attributes begin, and the names of all variants.
#pragma once

#include <math.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "CKernels.h"

#define BF16_VARIANT(name, level, ...) void name##_bf16_##level(__VA_ARGS__);
#define VARIANTS(name, level, ...) \
    void name##_f32_##level(__VA_ARGS__); \
    BF16_VARIANT(name, level, __VA_ARGS__)
#define STRIP(type, ...) __VA_ARGS__
#define CALL(macro, ...) macro(__VA_ARGS__)
#define KERNEL(name, parameters, arguments) \
    CALL(VARIANTS, name, baseline, STRIP parameters) \
    CALL(VARIANTS, name, v3, STRIP parameters) \
    CALL(VARIANTS, name, v4, STRIP parameters) \
    CALL(BF16_VARIANT, name, v4bf16, STRIP parameters) \
    CALL(BF16_VARIANT, name, amx, STRIP parameters)
#include "KernelList.def"
#undef KERNEL
