// One attention head. Operands are copied into fp32 panels whose rows are padded to sixteen columns; scores live in a block of
// query rows that stays in cache.

enum { KERNEL_LOCAL(QUERY_BLOCK) = 48 };

INLINE long KERNEL_LOCAL(padded)(long n) { return (n + LANES - 1) / LANES * LANES; }

#if !(LANES_BF16 && NARROW)

/// panel [S][padded d] = factor * x.
static void KERNEL_LOCAL(copy_rows)(const ELEMENT *x, long stride, long S, long d, float factor, float *panel) {
    long width = KERNEL_LOCAL(padded)(d);
    for (long s = 0; s < S; s++, x += stride, panel += width)
        EACH(i, c, d) store_f32(panel + i, LANES, LOAD(x + i, c) * factor);
}

/// panel [d][padded S] = xᵀ, sixteen rows at a time.
static void KERNEL_LOCAL(copy_columns)(const ELEMENT *x, long stride, long S, long d, float *panel) {
    long width = KERNEL_LOCAL(padded)(S);
    EACH(s, rows, S) EACH(i, c, d) {
        lanes_t square[LANES];
        for (long r = 0; r < LANES; r++) square[r] = r < rows ? LOAD(x + (s + r) * stride + i, c) : splat(0);
        transpose_square(square);
        for (long j = 0; j < c; j++) store_f32(panel + (i + j) * width + s, LANES, square[j]);
    }
}

#endif

/// Adds the bias and hides keys a row may not see; padding columns are hidden too.
INLINE void KERNEL_LOCAL(mask_row)(float *score, long row, long Sk, long width, int causal, const float *bias) {
    if (bias) EACH(i, c, Sk) store_f32(score + i, c, load_f32(score + i, c, 0) + load_f32(bias + row * Sk + i, c, 0));
    long visible = causal && row + 1 < Sk ? row + 1 : Sk;
    for (long i = visible / LANES * LANES; i < width; i += LANES)
        store_f32(score + i, LANES, choose(lane_numbers() < (int32_t)(visible - i), load_f32(score + i, LANES, 0), splat(-INFINITY)));
}

/// Replaces a few rows of scores by exp(factor score - factor largest), rounded into `rounded` where that is not NULL.
INLINE void KERNEL_LOCAL(exponentiate_some)(
    int some, float *score, long width, float factor, uint16_t *rounded, float *largest, float *totals) {
    lanes_t top[ROWS_AT_ONCE], sum[ROWS_AT_ONCE];
    for (int r = 0; r < some; r++) top[r] = splat(-INFINITY), sum[r] = splat(0);
    for (long i = 0; i < width; i += LANES)
        for (int r = 0; r < some; r++) top[r] = at_least(load_f32(score + r * width + i, LANES, 0), top[r]);
    for (int r = 0; r < some; r++) largest[r] = lane_max(top[r]) * factor;
    for (long i = 0; i < width; i += LANES)
        for (int r = 0; r < some; r++) {
            lanes_t e = lanes_exp(load_f32(score + r * width + i, LANES, 0) * factor - largest[r]);
            sum[r] += e;
            if (rounded) store_bf16(rounded + r * width + i, LANES, e);
            else store_f32(score + r * width + i, LANES, e);
        }
    for (int r = 0; r < some; r++) totals[r] = lane_sum(sum[r]);
}

/// `exponentiate_some` for all rows of a block.
INLINE void KERNEL_LOCAL(exponentiate)(
    long rows, float *score, long width, float factor, uint16_t *rounded, float *largest, float *totals) {
#define SOME(some, r) \
    KERNEL_LOCAL(exponentiate_some)( \
        some, score + r * width, width, factor, rounded ? rounded + r * width : NULL, largest + r, totals + r)
    EACH_ROWS(r, rows, SOME);
#undef SOME
}

/// From each row's largest score and its total: log_sum, and 1 / total in the total's place.
INLINE void KERNEL_LOCAL(finish_rows)(long rows, const float *largest, float *totals, float *log_sum) {
    EACH(r, c, rows) {
        lanes_t total = load_f32(totals + r, c, 1);
        store_f32(log_sum + r, c, load_f32(largest + r, c, 0) + lanes_log(total));
        store_f32(totals + r, c, 1.0f / total);
    }
}

#if !(LANES_BF16 && NARROW)

/// For the size of `scratch` see `Heads` in OneDNNEngine+Attention.swift.
void KERNEL_NAME(attention)(
    const void *q, const void *k, const void *v, long stride, long Sq, long Sk, long d, float scale, int causal,
    const float *bias, float *scratch, void *y_, float *log_sum) {
    ELEMENT *y = y_;
    const long block = KERNEL_LOCAL(QUERY_BLOCK), dp = KERNEL_LOCAL(padded)(d), kp = KERNEL_LOCAL(padded)(Sk);
    float *queries = scratch, *keys = queries + block * dp, *values = keys + d * kp, *scores = values + Sk * dp;
    float *output = scores + block * kp;
    KERNEL_LOCAL(copy_columns)(k, stride, Sk, d, keys);
    KERNEL_LOCAL(copy_rows)(v, stride, Sk, d, 1, values);
    for (long start = 0; start < Sq; start += block) {
        long rows = Sq - start < block ? Sq - start : block;
        KERNEL_LOCAL(copy_rows)((const ELEMENT *)q + start * stride, stride, rows, d, scale, queries);
        small_product(rows, kp, d, queries, dp, 1, keys, kp, scores, kp, 0);
        float largest[KERNEL_LOCAL(QUERY_BLOCK)], totals[KERNEL_LOCAL(QUERY_BLOCK)];
        for (long r = 0; r < rows; r++) KERNEL_LOCAL(mask_row)(scores + r * kp, start + r, Sk, kp, causal, bias);
        KERNEL_LOCAL(exponentiate)(rows, scores, kp, 1, NULL, largest, totals);
        KERNEL_LOCAL(finish_rows)(rows, largest, totals, log_sum + start);
        small_product(rows, dp, Sk, scores, kp, 1, values, dp, output, dp, 0);
        for (long r = 0; r < rows; r++)
            EACH(i, c, d) STORE(y + (start + r) * stride + i, c, load_f32(output + r * dp + i, c, 0) * totals[r]);
    }
}

// P = exp(S - log_sum), dP = dY Vᵀ, dS = P (dP - rowsum(dY Y)); dQ = scale dS K, dK = scale dSᵀ Q, dV = Pᵀ dY.
void KERNEL_NAME(attention_backward)(
    const void *dy, const void *q, const void *k, const void *v, const void *y, const float *log_sum, long stride, long Sq,
    long Sk, long d, float scale, int causal, const float *bias, float *scratch, void *dq_, void *dk_, void *dv_) {
    ELEMENT *dq = dq_, *dk = dk_, *dv = dv_;
    const long block = KERNEL_LOCAL(QUERY_BLOCK), dp = KERNEL_LOCAL(padded)(d), kp = KERNEL_LOCAL(padded)(Sk);
    float *queries = scratch, *upstream = queries + block * dp, *output = upstream + block * dp;
    float *keys_t = output + block * dp, *values_t = keys_t + d * kp, *keys = values_t + d * kp;
    float *sum_k = keys + Sk * dp, *sum_v = sum_k + Sk * dp, *scores = sum_v + Sk * dp, *dscores = scores + block * kp;
    KERNEL_LOCAL(copy_columns)(k, stride, Sk, d, keys_t);
    KERNEL_LOCAL(copy_columns)(v, stride, Sk, d, values_t);
    KERNEL_LOCAL(copy_rows)(k, stride, Sk, d, scale, keys);
    memset(sum_k, 0, 2 * Sk * dp * sizeof(float));
    for (long start = 0; start < Sq; start += block) {
        long rows = Sq - start < block ? Sq - start : block;
        KERNEL_LOCAL(copy_rows)((const ELEMENT *)q + start * stride, stride, rows, d, scale, queries);
        KERNEL_LOCAL(copy_rows)((const ELEMENT *)dy + start * stride, stride, rows, d, 1, upstream);
        KERNEL_LOCAL(copy_rows)((const ELEMENT *)y + start * stride, stride, rows, d, 1, output);
        small_product(rows, kp, d, queries, dp, 1, keys_t, kp, scores, kp, 0);
        small_product(rows, kp, d, upstream, dp, 1, values_t, kp, dscores, kp, 0);
        for (long r = 0; r < rows; r++) {
            float *score = scores + r * kp, *dscore = dscores + r * kp;
            KERNEL_LOCAL(mask_row)(score, start + r, Sk, kp, causal, bias);
            lanes_t product = splat(0);
            EACH(i, c, d) product += load_f32(output + r * dp + i, c, 0) * load_f32(upstream + r * dp + i, c, 0);
            float pull = lane_sum(product), normaliser = log_sum[start + r];
            for (long i = 0; i < kp; i += LANES) {
                lanes_t p = lanes_exp(load_f32(score + i, LANES, 0) - normaliser);
                store_f32(score + i, LANES, p);
                store_f32(dscore + i, LANES, p * (load_f32(dscore + i, LANES, 0) - pull));
            }
        }
        small_product(Sk, dp, rows, scores, 1, kp, upstream, dp, sum_v, dp, 1);
        small_product(Sk, dp, rows, dscores, 1, kp, queries, dp, sum_k, dp, 1);
        small_product(rows, dp, Sk, dscores, kp, 1, keys, dp, output, dp, 0);
        for (long r = 0; r < rows; r++)
            EACH(i, c, d) STORE(dq + (start + r) * stride + i, c, load_f32(output + r * dp + i, c, 0));
    }
    for (long s = 0; s < Sk; s++)
        EACH(i, c, d) {
            STORE(dk + s * stride + i, c, load_f32(sum_k + s * dp + i, c, 0));
            STORE(dv + s * stride + i, c, load_f32(sum_v + s * dp + i, c, 0));
        }
}

#endif
