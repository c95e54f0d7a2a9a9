// Group normalisation of one sample, channels last: x [P][C], statistics over all pixels and the channels of a group.

/// sums = over pixels, of x or, when `centred`, of (x - mean)^2, for two vectors of channels.
INLINE void KERNEL_LOCAL(column_sums)(
    const ELEMENT *x, long P, long C, long first, long second, int centred, const float *mean, float *sums) {
    lanes_t a = splat(0), b = splat(0);
    lanes_t mean_a = centred ? load_f32(mean, first, 0) : a, mean_b = centred ? load_f32(mean + first, second, 0) : b;
    for (long p = 0; p < P; p++, x += C) {
        lanes_t value_a = LOAD(x, first) - mean_a, value_b = LOAD(x + first, second) - mean_b;
        a += centred ? value_a * value_a : value_a;
        b += centred ? value_b * value_b : value_b;
    }
    store_f32(sums, first, a);
    store_f32(sums + first, second, b);
}

/// scratch[0..C) = mean and scratch[C..2C) = 1 / sqrt(variance + epsilon) of each channel's group; uses scratch[2C..3C).
static void KERNEL_LOCAL(group_statistics)(const ELEMENT *x, long P, long C, long groups, float epsilon, float *scratch) {
    float *mean = scratch, *scale = scratch + C, *sums = scratch + 2 * C;
    long width = C / groups;
    for (int pass = 0; pass < 2; pass++) {
        // Two columns of vectors at a time, so that the sums stay in registers while the pixels pass.
        for (long i = 0; i < C; i += 2 * LANES) {
            long first = C - i < LANES ? C - i : LANES, second = C - i - first < LANES ? C - i - first : LANES;
            if (first == LANES && second == LANES)
                KERNEL_LOCAL(column_sums)(x + i, P, C, LANES, LANES, pass, mean + i, sums + i);
            else KERNEL_LOCAL(column_sums)(x + i, P, C, first, second, pass, mean + i, sums + i);
        }
        for (long g = 0; g < groups; g++) {
            float total = 0;
            for (long i = 0; i < width; i++) total += sums[g * width + i];
            float value = total / ((float)P * width);
            if (pass) value = 1 / sqrtf(value + epsilon);
            for (long i = 0; i < width; i++) (pass ? scale : mean)[g * width + i] = value;
        }
    }
}

void KERNEL_NAME(group_norm)(
    const void *x_, long P, long C, long groups, const float *weight, const float *bias, float epsilon, int silu,
    float *scratch, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    KERNEL_LOCAL(group_statistics)(x, P, C, groups, epsilon, scratch);
    float *mean = scratch, *scale = scratch + C;
    for (long i = 0; i < C; i++) {
        scale[i] *= weight[i];
        mean[i] = bias[i] - mean[i] * scale[i];
    }
    for (long p = 0; p < P; p++, x += C, y += C) EACH(i, c, C) {
        lanes_t value = LOAD(x + i, c) * load_f32(scale + i, c, 0) + load_f32(mean + i, c, 0);
        if (silu) value *= lanes_sigmoid(value);
        STORE(y + i, c, value);
    }
}

/// n = (x - mean) scale and the gradient of the affine output, through SiLU when asked.
INLINE lanes_t KERNEL_LOCAL(group_upstream)(
    lanes_t dy, lanes_t normal, lanes_t weight, lanes_t bias, int silu) {
    if (!silu) return dy;
    lanes_t z = normal * weight + bias, s = lanes_sigmoid(z);
    return dy * s * (1.0f + z * (1.0f - s));
}

// With g = dy weight: dx = scale (g - mean(g) - n mean(g n)), the means over the group.
void KERNEL_NAME(group_norm_backward)(
    const void *dy_, const void *x_, long P, long C, long groups, const float *weight, const float *bias, float epsilon,
    int silu, float *scratch, void *dx_, float *dweight, float *dbias) {
    const ELEMENT *dy = dy_, *x = x_;
    ELEMENT *dx = dx_;
    KERNEL_LOCAL(group_statistics)(x, P, C, groups, epsilon, scratch);
    float *mean = scratch, *scale = scratch + C, *sums = scratch + 2 * C, *products = scratch + 3 * C;
    float *mean_sum = scratch + 4 * C, *mean_product = scratch + 5 * C;
    memset(sums, 0, 2 * C * sizeof(float));
    for (long p = 0; p < P; p++) EACH(i, c, C) {
        lanes_t normal = (LOAD(x + p * C + i, c) - load_f32(mean + i, c, 0)) * load_f32(scale + i, c, 0);
        lanes_t upstream = KERNEL_LOCAL(group_upstream)(
            LOAD(dy + p * C + i, c), normal, load_f32(weight + i, c, 0), load_f32(bias + i, c, 0), silu);
        store_f32(sums + i, c, load_f32(sums + i, c, 0) + upstream);
        store_f32(products + i, c, load_f32(products + i, c, 0) + upstream * normal);
    }
    long width = C / groups;
    for (long g = 0; g < groups; g++) {
        float sum = 0, product = 0, count = (float)P * width;
        for (long i = g * width; i < (g + 1) * width; i++) {
            dbias[i] += sums[i];
            dweight[i] += products[i];
            sum += sums[i] * weight[i];
            product += products[i] * weight[i];
        }
        for (long i = g * width; i < (g + 1) * width; i++) {
            mean_sum[i] = sum / count;
            mean_product[i] = product / count;
        }
    }
    for (long p = 0; p < P; p++) EACH(i, c, C) {
        lanes_t w = load_f32(weight + i, c, 0), s = load_f32(scale + i, c, 0);
        lanes_t normal = (LOAD(x + p * C + i, c) - load_f32(mean + i, c, 0)) * s;
        lanes_t upstream = KERNEL_LOCAL(group_upstream)(LOAD(dy + p * C + i, c), normal, w, load_f32(bias + i, c, 0), silu);
        lanes_t result = s * (upstream * w - load_f32(mean_sum + i, c, 0) - normal * load_f32(mean_product + i, c, 0));
        STORE(dx + p * C + i, c, result);
    }
}
