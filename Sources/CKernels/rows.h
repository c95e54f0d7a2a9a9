// Kernels over the rows of a matrix: every row is normalised on its own.

void KERNEL_NAME(to_float)(const void *x_, long n, float *y) {
    const ELEMENT *x = x_;
    EACH(i, c, n) store_f32(y + i, c, LOAD(x + i, c));
}

void KERNEL_NAME(from_float)(const float *x, long n, void *y_) {
    ELEMENT *y = y_;
    EACH(i, c, n) STORE(y + i, c, load_f32(x + i, c, 0));
}

// A bfloat16 row is read three times: where `copy`, which has room for ROW_COPY columns a row, is not NULL, only the first time
// from x.

#define ROW_COPY 2048

INLINE lanes_t KERNEL_LOCAL(row_lanes)(const ELEMENT *x, const float *copy, long at, long count, float rest) {
    return copy ? load_f32(copy + at, count, rest) : LOAD_OR(x + at, count, rest);
}

/// Mean and 1 / sqrt(variance + epsilon) of a few rows, in two passes; fills the copy.
INLINE void KERNEL_LOCAL(row_statistics)(
    int some, const ELEMENT *x, float *copy, long D, float epsilon, float *mean, float *scale) {
    lanes_t sum[ROWS_AT_ONCE], squares[ROWS_AT_ONCE];
    for (int r = 0; r < some; r++) sum[r] = squares[r] = splat(0);
    EACH(i, c, D)
        for (int r = 0; r < some; r++) {
            lanes_t value = LOAD(x + r * D + i, c);
            if (copy) store_f32(copy + r * D + i, c, value);
            sum[r] += value;
        }
    for (int r = 0; r < some; r++) mean[r] = lane_sum(sum[r]) / D;
    EACH(i, c, D)
        for (int r = 0; r < some; r++) {
            lanes_t delta = KERNEL_LOCAL(row_lanes)(x, copy, r * D + i, c, mean[r]) - mean[r];
            squares[r] += delta * delta;
        }
    for (int r = 0; r < some; r++) scale[r] = 1 / sqrtf(lane_sum(squares[r]) / D + epsilon);
}

/// LN of a few rows.
INLINE void KERNEL_LOCAL(normalize_some)(
    int some, const ELEMENT *x, float *copy, const float *weight, const float *bias, float epsilon, long D, ELEMENT *y) {
    float mean[ROWS_AT_ONCE], scale[ROWS_AT_ONCE];
    KERNEL_LOCAL(row_statistics)(some, x, copy, D, epsilon, mean, scale);
    EACH(i, c, D)
        for (int r = 0; r < some; r++) {
            lanes_t value = (KERNEL_LOCAL(row_lanes)(x, copy, r * D + i, c, 0) - mean[r]) * scale[r];
            if (weight) value *= load_f32(weight + i, c, 0);
            if (bias) value += load_f32(bias + i, c, 0);
            STORE(y + r * D + i, c, value);
        }
}

void KERNEL_NAME(layer_norm)(
    const void *x_, const float *weight, const float *bias, float epsilon, long M, long D, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    float copy[NARROW ? ROWS_AT_ONCE * ROW_COPY : 1];
    // The usual case on its own, so that its loops ask nothing.
#define USUAL(some, r) \
    KERNEL_LOCAL(normalize_some)(some, x + r * D, NARROW ? copy : NULL, weight, bias, epsilon, D, y + r * D)
#define OTHER(some, r) KERNEL_LOCAL(normalize_some)(some, x + r * D, NULL, weight, bias, epsilon, D, y + r * D)
    if (weight && bias && D <= ROW_COPY) EACH_ROWS(m, M, USUAL);
    else EACH_ROWS(m, M, OTHER);
#undef USUAL
#undef OTHER
}

// With n = (x - mean) scale and g = dy weight: dx = scale (g - mean(g) - n mean(g n)).
void KERNEL_NAME(layer_norm_backward)(
    const void *dy_, const void *x_, const float *weight, float epsilon, long M, long D, void *dx_, float *dweight,
    float *dbias) {
    const ELEMENT *dy = dy_, *x = x_;
    ELEMENT *dx = dx_;
    float row[NARROW ? ROW_COPY : 1], *copy = NARROW && D <= ROW_COPY ? row : NULL;
    if (dweight) memset(dweight, 0, D * sizeof(float));
    if (dbias) memset(dbias, 0, D * sizeof(float));
    for (long m = 0; m < M; m++, dy += D, x += D, dx += D) {
        float mean, scale;
        KERNEL_LOCAL(row_statistics)(1, x, copy, D, epsilon, &mean, &scale);
        lanes_t sum = splat(0), product = splat(0);
        EACH(i, c, D) {
            lanes_t normal = (KERNEL_LOCAL(row_lanes)(x, copy, i, c, mean) - mean) * scale;
            lanes_t upstream = LOAD(dy + i, c);
            if (dbias) store_f32(dbias + i, c, load_f32(dbias + i, c, 0) + upstream);
            if (dweight) store_f32(dweight + i, c, load_f32(dweight + i, c, 0) + upstream * normal);
            if (weight) upstream *= load_f32(weight + i, c, 0);
            sum += upstream;
            product += upstream * normal;
        }
        float mean_sum = lane_sum(sum) / D, mean_product = lane_sum(product) / D;
        EACH(i, c, D) {
            lanes_t normal = (KERNEL_LOCAL(row_lanes)(x, copy, i, c, 0) - mean) * scale;
            lanes_t upstream = LOAD(dy + i, c);
            if (weight) upstream *= load_f32(weight + i, c, 0);
            STORE(dx + i, c, (upstream - mean_sum - normal * mean_product) * scale);
        }
    }
}

INLINE float KERNEL_LOCAL(row_squares)(const ELEMENT *x, long D) {
    lanes_t squares = splat(0);
    EACH(i, c, D) {
        lanes_t value = LOAD(x + i, c);
        squares += value * value;
    }
    return lane_sum(squares);
}

void KERNEL_NAME(rms_norm)(const void *x_, const float *weight, float epsilon, long M, long D, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    for (long m = 0; m < M; m++, x += D, y += D) {
        float scale = 1 / sqrtf(KERNEL_LOCAL(row_squares)(x, D) / D + epsilon);
        EACH(i, c, D) STORE(y + i, c, LOAD(x + i, c) * scale * load_f32(weight + i, c, 0));
    }
}

// With r = 1 / rms and g = dy weight: dx = r (g - x r^2 mean(g x)).
void KERNEL_NAME(rms_norm_backward)(
    const void *dy_, const void *x_, const float *weight, float epsilon, long M, long D, void *dx_, float *dweight) {
    const ELEMENT *dy = dy_, *x = x_;
    ELEMENT *dx = dx_;
    memset(dweight, 0, D * sizeof(float));
    for (long m = 0; m < M; m++, dy += D, x += D, dx += D) {
        float scale = 1 / sqrtf(KERNEL_LOCAL(row_squares)(x, D) / D + epsilon);
        lanes_t product = splat(0);
        EACH(i, c, D) {
            lanes_t value = LOAD(x + i, c), upstream = LOAD(dy + i, c);
            store_f32(dweight + i, c, load_f32(dweight + i, c, 0) + upstream * value * scale);
            product += upstream * load_f32(weight + i, c, 0) * value;
        }
        float pull = lane_sum(product) / D * scale * scale;
        EACH(i, c, D) {
            lanes_t value = LOAD(x + i, c), upstream = LOAD(dy + i, c) * load_f32(weight + i, c, 0);
            STORE(dx + i, c, (upstream - value * pull) * scale);
        }
    }
}

void KERNEL_NAME(softmax)(const void *x_, long M, long N, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    for (long m = 0; m < M; m++, x += N, y += N) {
        lanes_t top = splat(-INFINITY);
        EACH(i, c, N) top = at_least(LOAD_OR(x + i, c, -INFINITY), top);
        float max = lane_max(top);
        lanes_t sum = splat(0);
        EACH(i, c, N) sum += lanes_exp(LOAD_OR(x + i, c, -INFINITY) - max);
        float scale = 1 / lane_sum(sum);
        EACH(i, c, N) STORE(y + i, c, lanes_exp(LOAD(x + i, c) - max) * scale);
    }
}

void KERNEL_NAME(softmax_backward)(const void *dy_, const void *y_, long M, long N, void *dx_) {
    const ELEMENT *dy = dy_, *y = y_;
    ELEMENT *dx = dx_;
    for (long m = 0; m < M; m++, dy += N, y += N, dx += N) {
        lanes_t product = splat(0);
        EACH(i, c, N) product += LOAD(dy + i, c) * LOAD(y + i, c);
        float sum = lane_sum(product);
        EACH(i, c, N) STORE(dx + i, c, (LOAD(dy + i, c) - sum) * LOAD(y + i, c));
    }
}

void KERNEL_NAME(unit_norm)(const void *x_, float epsilon, long M, long N, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    for (long m = 0; m < M; m++, x += N, y += N) {
        float scale = 1 / (sqrtf(KERNEL_LOCAL(row_squares)(x, N)) + epsilon);
        EACH(i, c, N) STORE(y + i, c, LOAD(x + i, c) * scale);
    }
}

// With s = 1 / (norm + eps): dx = s dy - x s^2 (dy . x) / norm.
void KERNEL_NAME(unit_norm_backward)(const void *dy_, const void *x_, float epsilon, long M, long N, void *dx_) {
    const ELEMENT *dy = dy_, *x = x_;
    ELEMENT *dx = dx_;
    for (long m = 0; m < M; m++, dy += N, x += N, dx += N) {
        float norm = sqrtf(KERNEL_LOCAL(row_squares)(x, N));
        float scale = 1 / (norm + epsilon);
        lanes_t product = splat(0);
        EACH(i, c, N) product += LOAD(dy + i, c) * LOAD(x + i, c);
        float pull = norm > 0 ? lane_sum(product) * scale * scale / norm : 0;
        EACH(i, c, N) STORE(dx + i, c, LOAD(dy + i, c) * scale - LOAD(x + i, c) * pull);
    }
}
