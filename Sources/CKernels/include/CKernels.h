#ifndef ADVGRPO_KERNELS_H
#define ADVGRPO_KERNELS_H

#include <stdint.h>

/// Element type of a kernel's tensor operands (`const void *`, `void *`); `float *` operands are fp32 whatever the type.
typedef enum { kernel_float32 = 0, kernel_bfloat16 = 1 } kernel_type;

/// Point-wise functions, in the order of Swift's `Activation`.
typedef enum {
    kernel_silu,
    kernel_gelu_tanh,
    kernel_gelu_erf,
    kernel_quick_gelu,
    kernel_relu,
    kernel_tanh,
    kernel_sigmoid,
    kernel_exp,
    kernel_sqrt,
    kernel_softplus,
    kernel_square
} kernel_activation;

/// One AdamW update: m' = kept1 m + added1 g, v' = kept2 v + added2 g², p' = decay p - step_size m' / (sqrt(v') root_scale + epsilon).
typedef struct {
    float step_size, kept1, added1, kept2, added2, root_scale, epsilon, decay;
} kernel_adam_step;

/// Instruction sets a kernel exists for.
typedef enum { kernel_baseline = 0, kernel_x86_64_v3 = 1, kernel_x86_64_v4 = 2, kernel_avx512_bf16 = 3, kernel_amx = 4 } kernel_level;

/// Whether multiplying bfloat16 by vdpbf16ps is faster than converting it and multiplying fp32. AMD's Zen 4 issues one a cycle,
/// twice the work of its one fp32 FMA; Intel's cores issue one in two cycles beside two FMAs a cycle, half the work (measured on
/// family 6 model 207: 96 against 192 GFLOP/s a core).
int kernel_bf16_dot_pays(void);

/// The fastest level of this processor, or what ADVGRPO_KERNELS=baseline|v3|v4 lowers it to; decided once.
kernel_level kernel_level_in_use(void);

/// For tests: uses a level from now on, at most the processor's own. Returns the level in use.
kernel_level kernel_level_select(kernel_level level);

// void kernel_NAME(kernel_type type, ...) for each entry of the list.
#define KERNEL(name, parameters, arguments) void kernel_##name parameters;
#include "KernelList.def"
#undef KERNEL

#endif
