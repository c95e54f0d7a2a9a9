#include <stdatomic.h>
#include <stdlib.h>

#include "amx.h"
#include "declarations.h"

static kernel_level supported(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    int bf16 = v4 && __builtin_cpu_supports("avx512bf16");
    if (bf16 && amx_is_permitted()) return kernel_amx;
    return bf16 ? kernel_avx512_bf16 : v4 ? kernel_x86_64_v4 : v3 ? kernel_x86_64_v3 : kernel_baseline;
#else
    return kernel_baseline;
#endif
}

int kernel_bf16_dot_pays(void) {
#if defined(__x86_64__)
    return supported() == kernel_avx512_bf16 && !__builtin_cpu_is("intel");
#else
    return 0;
#endif
}

/// The level in use plus one; zero until the first call.
static _Atomic int chosen;

kernel_level kernel_level_select(kernel_level level) {
    kernel_level best = supported();
    if (level > best) level = best;
    atomic_store_explicit(&chosen, (int)level + 1, memory_order_relaxed);
    return level;
}

kernel_level kernel_level_in_use(void) {
    int level = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (__builtin_expect(level != 0, 1)) return (kernel_level)(level - 1);
    const char *wish = getenv("ADVGRPO_KERNELS");
    if (wish && !strcmp(wish, "baseline")) return kernel_level_select(kernel_baseline);
    if (wish && !strcmp(wish, "v3")) return kernel_level_select(kernel_x86_64_v3);
    if (wish && !strcmp(wish, "v4")) return kernel_level_select(kernel_x86_64_v4);
    kernel_level best = supported();
    return kernel_level_select(best == kernel_avx512_bf16 && !kernel_bf16_dot_pays() ? kernel_x86_64_v4 : best);
}

#if defined(__x86_64__)
/// A kernel of the level in use; `v4bf16` and `amx` name the level whose kernel serves where those are in use.
#define LEVELS(name, suffix, v4bf16, amx, arguments) \
    switch (kernel_level_in_use()) { \
    case kernel_amx: name##_##suffix##_##amx arguments; return; \
    case kernel_avx512_bf16: name##_##suffix##_##v4bf16 arguments; return; \
    case kernel_x86_64_v4: name##_##suffix##_v4 arguments; return; \
    case kernel_x86_64_v3: name##_##suffix##_v3 arguments; return; \
    case kernel_baseline: name##_##suffix##_baseline arguments; return; \
    }
#else
#define LEVELS(name, suffix, v4bf16, amx, arguments) name##_##suffix##_baseline arguments;
#endif

#define KERNEL(name, parameters, arguments) \
    void kernel_##name parameters { \
        if (type == kernel_bfloat16) { \
            LEVELS(name, bf16, v4bf16, amx, arguments) \
        } else { \
            LEVELS(name, f32, v4, v4, arguments) \
        } \
    }
#include "KernelList.def"
