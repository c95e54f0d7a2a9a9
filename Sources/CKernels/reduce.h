// Reductions. Sums run over blocks of fixed length whose totals are added in double precision.

void KERNEL_NAME(sum_rows)(const void *x_, long M, long N, float *y) {
    const ELEMENT *x = x_;
    memset(y, 0, N * sizeof(float));
    for (long m = 0; m < M; m++, x += N)
        EACH(i, c, N) store_f32(y + i, c, load_f32(y + i, c, 0) + LOAD(x + i, c));
}

enum { KERNEL_LOCAL(BLOCK) = 4096 };

/// Sum of f(x), in which f is the value or, when `square`, its square.
INLINE double KERNEL_LOCAL(long_sum)(const ELEMENT *x, long n, int square) {
    double total = 0;
    for (long start = 0; start < n; start += KERNEL_LOCAL(BLOCK)) {
        long length = n - start < KERNEL_LOCAL(BLOCK) ? n - start : KERNEL_LOCAL(BLOCK);
        lanes_t sum = splat(0);
        EACH(i, c, length) {
            lanes_t value = LOAD(x + start + i, c);
            sum += square ? value * value : value;
        }
        total += lane_sum(sum);
    }
    return total;
}

void KERNEL_NAME(mean_blocks)(const void *x_, long M, long N, float *y) {
    const ELEMENT *x = x_;
    for (long m = 0; m < M; m++) y[m] = (float)(KERNEL_LOCAL(long_sum)(x + m * N, N, 0) / N);
}

void KERNEL_NAME(sum_of_squares)(const void *x, long n, double *y) { *y = KERNEL_LOCAL(long_sum)(x, n, 1); }

void KERNEL_NAME(spread)(const float *x, long M, long N, void *y_) {
    ELEMENT *y = y_;
    for (long m = 0; m < M; m++, y += N)
        EACH(i, c, N) STORE(y + i, c, splat(x[m]));
}

/// The k-th largest value of a row, and how many values equal to it belong to the k largest. Selects in `scratch`.
static float KERNEL_LOCAL(kth_largest)(const ELEMENT *x, long N, long k, float *scratch, long *equal) {
    EACH(i, c, N) store_f32(scratch + i, c, LOAD(x + i, c));
    long low = 0, high = N - 1, wanted = k - 1;
    while (low < high) {
        float pivot = scratch[low + (high - low) / 2];
        long i = low, j = high;
        while (i <= j) {
            while (scratch[i] > pivot) i++;
            while (scratch[j] < pivot) j--;
            if (i > j) break;
            float swap = scratch[i];
            scratch[i++] = scratch[j];
            scratch[j--] = swap;
        }
        if (wanted <= j) high = j;
        else if (wanted >= i) low = i;
        else break;
    }
    float threshold = scratch[wanted];
    long greater = 0;
    for (long i = 0; i < N; i++) {
        float value;
        store_f32(&value, 1, LOAD(x + i, 1));
        greater += value > threshold;
    }
    *equal = k - greater;
    return threshold;
}

void KERNEL_NAME(top_mean)(const void *x_, long M, long N, long k, float *scratch, float *y) {
    const ELEMENT *x = x_;
    for (long m = 0; m < M; m++, x += N) {
        long equal;
        float threshold = KERNEL_LOCAL(kth_largest)(x, N, k, scratch, &equal);
        lanes_t sum = splat(0);
        EACH(i, c, N) {
            lanes_t value = LOAD_OR(x + i, c, threshold);
            sum += choose(value > threshold, value, splat(0));
        }
        y[m] = (lane_sum(sum) + equal * threshold) / k;
    }
}

void KERNEL_NAME(top_mean_backward)(
    const float *dy, const void *x_, long M, long N, long k, float *scratch, void *dx_) {
    const ELEMENT *x = x_;
    ELEMENT *dx = dx_;
    for (long m = 0; m < M; m++, x += N, dx += N) {
        long equal;
        float threshold = KERNEL_LOCAL(kth_largest)(x, N, k, scratch, &equal);
        for (long i = 0; i < N; i++) {
            float value = LOAD(x + i, 1)[0];
            int taken = value > threshold || (value == threshold && equal-- > 0);
            STORE(dx + i, 1, splat(taken ? dy[m] / k : 0));
        }
    }
}

void KERNEL_NAME(token_statistics)(const void *x_, long N, long D, float *y) {
    const ELEMENT *x = x_;
    EACH(i, c, D) {
        lanes_t sum = splat(0), squares = splat(0), most = splat(-INFINITY), least = splat(INFINITY);
        for (long n = 0; n < N; n++) {
            lanes_t value = LOAD(x + n * D + i, c);
            sum += value;
            most = at_least(value, most);
            least = at_most(value, least);
        }
        lanes_t mean = sum / (float)N;
        for (long n = 0; n < N; n++) {
            lanes_t delta = LOAD(x + n * D + i, c) - mean;
            squares += delta * delta;
        }
        store_f32(y + i, c, mean);
        store_f32(y + D + i, c, __builtin_elementwise_sqrt(squares / (float)N));
        store_f32(y + 2 * D + i, c, most);
        store_f32(y + 3 * D + i, c, least);
    }
}

void KERNEL_NAME(scatter_rows)(const void *rows_, const int32_t *indices, long M, long D, float *table) {
    const ELEMENT *rows = rows_;
    for (long m = 0; m < M; m++, rows += D) {
        float *target = table + indices[m] * D;
        EACH(i, c, D) store_f32(target + i, c, load_f32(target + i, c, 0) + LOAD(rows + i, c));
    }
}
