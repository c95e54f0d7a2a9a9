// One attention head on processors that multiply pairs of bfloat16 numbers (vdpbf16ps, AMX): attention.h with its products over pairs.
// A panel of pairs is counted in 32-bit units, each two numbers that follow each other along the summed axis. Probabilities
// and their gradients are rounded to bfloat16 where they are multiplied; sums and the softmax stay fp32.

/// `count` numbers as 16 units, the rest zero.
INLINE lanes_t load_units(const uint16_t *p, long count) {
    lanes_t x = splat(0);
    if (count >= 2 * LANES) memcpy(&x, p, sizeof x);
    else memcpy(&x, p, count * sizeof(uint16_t));
    return x;
}

/// panel [S][padded d] of bfloat16 = x.
static void pair_rows(const uint16_t *x, long stride, long S, long d, float *panel) {
    long units = KERNEL_LOCAL(padded)(d) / 2;
    for (long s = 0; s < S; s++, x += stride, panel += units)
        for (long i = 0; i < units; i += LANES) store_f32(panel + i, units - i < LANES ? units - i : LANES, load_units(x + 2 * i, d - 2 * i));
}

/// panel [pairs of d][padded S] = xᵀ.
static void pair_columns(const uint16_t *x, long stride, long S, long d, float *panel) {
    long width = KERNEL_LOCAL(padded)(S), pairs = (d + 1) / 2;
    EACH(s, rows, S) EACH(i, units, pairs) {
        lanes_t square[LANES];
        for (long r = 0; r < LANES; r++) square[r] = r < rows ? load_units(x + (s + r) * stride + 2 * i, d - 2 * i) : splat(0);
        transpose_square(square);
        for (long j = 0; j < units; j++) store_f32(panel + (i + j) * width + s, LANES, square[j]);
    }
}

INLINE lanes_t join(halves_t low, halves_t high) {
    return (lanes_t)(__builtin_convertvector(low, bits_t) | __builtin_convertvector(high, bits_t) << 16);
}

/// panel [pairs of S][padded d]: rows 2 s and 2 s + 1 of x side by side.
static void pair_neighbours(const uint16_t *x, long stride, long S, long d, float *panel) {
    long width = KERNEL_LOCAL(padded)(d);
    for (long s = 0; s < S; s += 2, panel += width) EACH(i, c, d) {
        halves_t low = {0}, high = {0};
        memcpy(&low, x + s * stride + i, c * sizeof(uint16_t));
        if (s + 1 < S) memcpy(&high, x + (s + 1) * stride + i, c * sizeof(uint16_t));
        store_f32(panel + i, LANES, join(low, high));
    }
}

/// Hides keys; with a bias scores = scale * scores + bias. Returns the factor that is still to be applied.
INLINE float bias_and_mask(float *score, float scale, long row, long Sk, long width, int causal, const float *bias) {
    if (bias) for (long i = 0; i < width; i += LANES) store_f32(score + i, LANES, load_f32(score + i, LANES, 0) * scale);
    KERNEL_LOCAL(mask_row)(score, row, Sk, width, causal, bias);
    return bias ? 1 : scale;
}

void KERNEL_NAME(attention)(
    const void *q, const void *k, const void *v, long stride, long Sq, long Sk, long d, float scale, int causal,
    const float *bias, float *scratch, void *y_, float *log_sum) {
    uint16_t *y = y_;
    const long block = KERNEL_LOCAL(QUERY_BLOCK), dp = KERNEL_LOCAL(padded)(d), kp = KERNEL_LOCAL(padded)(Sk);
    const long d2 = (d + 1) / 2, k2 = (Sk + 1) / 2;
    float *queries = scratch, *keys = queries + block * dp / 2, *values = keys + d2 * kp, *scores = values + k2 * dp;
    float *probabilities = scores + block * kp, *output = probabilities + block * kp / 2;
    const tile_shapes shapes = tiles_begin();
    pair_columns(k, stride, Sk, d, keys);
    pair_neighbours(v, stride, Sk, d, values);
    for (long start = 0; start < Sq; start += block) {
        long rows = Sq - start < block ? Sq - start : block;
        pair_rows((const uint16_t *)q + start * stride, stride, rows, d, queries);
        small_product_of_pairs(rows, kp, d2, queries, dp / 2, 1, keys, kp, scores, kp, 0);
        float largest[KERNEL_LOCAL(QUERY_BLOCK)], totals[KERNEL_LOCAL(QUERY_BLOCK)];
        float factor = scale;
        for (long r = 0; r < rows; r++) factor = bias_and_mask(scores + r * kp, scale, start + r, Sk, kp, causal, bias);
        KERNEL_LOCAL(exponentiate)(rows, scores, kp, factor, (uint16_t *)probabilities, largest, totals);
        KERNEL_LOCAL(finish_rows)(rows, largest, totals, log_sum + start);
        small_product_of_pairs(rows, dp, k2, probabilities, kp / 2, 1, values, dp, output, dp, 0);
        for (long r = 0; r < rows; r++)
            EACH(i, c, d) store_bf16(y + (start + r) * stride + i, c, load_f32(output + r * dp + i, c, 0) * totals[r]);
    }
    tiles_end(shapes);
}

void KERNEL_NAME(attention_backward)(
    const void *dy_, const void *q_, const void *k, const void *v, const void *y_, const float *log_sum, long stride, long Sq,
    long Sk, long d, float scale, int causal, const float *bias, float *scratch, void *dq_, void *dk_, void *dv_) {
    const uint16_t *dy = dy_, *q = q_, *y = y_;
    uint16_t *dq = dq_, *dk = dk_, *dv = dv_;
    const long block = KERNEL_LOCAL(QUERY_BLOCK), dp = KERNEL_LOCAL(padded)(d), kp = KERNEL_LOCAL(padded)(Sk);
    const long d2 = (d + 1) / 2, k2 = (Sk + 1) / 2, half = block / 2;
    float *queries = scratch, *upstream = queries + half * dp, *query_pairs = upstream + half * dp;
    float *upstream_pairs = query_pairs + half * dp, *output = upstream_pairs + half * dp, *keys_t = output + block * dp;
    float *values_t = keys_t + d2 * kp, *key_pairs = values_t + d2 * kp, *sum_k = key_pairs + k2 * dp;
    float *sum_v = sum_k + Sk * dp, *scores = sum_v + Sk * dp, *dscores = scores + block * kp;
    float *p_pairs = dscores + block * kp, *ds_pairs = p_pairs + half * kp, *ds_rows = ds_pairs + half * kp;
    const tile_shapes shapes = tiles_begin();
    pair_columns(k, stride, Sk, d, keys_t);
    pair_columns(v, stride, Sk, d, values_t);
    pair_neighbours(k, stride, Sk, d, key_pairs);
    memset(sum_k, 0, 2 * Sk * dp * sizeof(float));
    for (long start = 0; start < Sq; start += block) {
        long rows = Sq - start < block ? Sq - start : block, at = start * stride;
        pair_rows(q + at, stride, rows, d, queries);
        pair_rows(dy + at, stride, rows, d, upstream);
        pair_neighbours(q + at, stride, rows, d, query_pairs);
        pair_neighbours(dy + at, stride, rows, d, upstream_pairs);
        small_product_of_pairs(rows, kp, d2, queries, dp / 2, 1, keys_t, kp, scores, kp, 0);
        small_product_of_pairs(rows, kp, d2, upstream, dp / 2, 1, values_t, kp, dscores, kp, 0);
        if (rows % 2) memset(scores + rows * kp, 0, kp * sizeof(float)), memset(dscores + rows * kp, 0, kp * sizeof(float));
        for (long r = 0; r < rows; r++) {
            float *score = scores + r * kp, *dscore = dscores + r * kp;
            float factor = bias_and_mask(score, scale, start + r, Sk, kp, causal, bias);
            lanes_t product = splat(0);
            EACH(i, c, d) product += load_bf16(y + at + r * stride + i, c, 0) * load_bf16(dy + at + r * stride + i, c, 0);
            float pull = lane_sum(product), normaliser = log_sum[start + r];
            for (long i = 0; i < kp; i += LANES) {
                lanes_t p = lanes_exp(load_f32(score + i, LANES, 0) * factor - normaliser);
                lanes_t ds = p * (load_f32(dscore + i, LANES, 0) - pull) * scale;
                store_f32(score + i, LANES, p);
                store_f32(dscore + i, LANES, ds);
                store_bf16((uint16_t *)ds_rows + r * kp + i, LANES, ds);
            }
        }
        for (long r = 0; r < rows; r += 2)
            for (long i = 0; i < kp; i += LANES) {
                const float *p = scores + r * kp + i, *ds = dscores + r * kp + i;
                lanes_t p_join = join(to_bf16(load_f32(p, LANES, 0)), to_bf16(load_f32(p + kp, LANES, 0)));
                lanes_t ds_join = join(to_bf16(load_f32(ds, LANES, 0)), to_bf16(load_f32(ds + kp, LANES, 0)));
                store_f32(p_pairs + r / 2 * kp + i, LANES, p_join);
                store_f32(ds_pairs + r / 2 * kp + i, LANES, ds_join);
            }
        long pairs = (rows + 1) / 2;
        small_product_of_pairs(Sk, dp, pairs, p_pairs, 1, kp, upstream_pairs, dp, sum_v, dp, 1);
        small_product_of_pairs(Sk, dp, pairs, ds_pairs, 1, kp, query_pairs, dp, sum_k, dp, 1);
        small_product_of_pairs(rows, dp, k2, ds_rows, kp / 2, 1, key_pairs, dp, output, dp, 0);
        for (long r = 0; r < rows; r++)
            EACH(i, c, d) store_bf16(dq + at + r * stride + i, c, load_f32(output + r * dp + i, c, 0));
    }
    for (long s = 0; s < Sk; s++)
        EACH(i, c, d) {
            store_bf16(dk + s * stride + i, c, load_f32(sum_k + s * dp + i, c, 0));
            store_bf16(dv + s * stride + i, c, load_f32(sum_v + s * dp + i, c, 0));
        }
    tiles_end(shapes);
}
