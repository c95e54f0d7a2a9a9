// Kernels that move elements.

void KERNEL_NAME(permute)(const void *x_, long n0, long n1, long n2, long s0, long s1, long s2, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    for (long i = 0; i < n0; i++)
        for (long j = 0; j < n1; j++) {
            const ELEMENT *from = x + i * s0 + j * s1;
            if (s2 == 1) memcpy(y, from, n2 * sizeof(ELEMENT));
            else for (long k = 0; k < n2; k++) y[k] = from[k * s2];
            y += n2;
        }
}

void KERNEL_NAME(upsample_backward)(const void *dy_, long H, long W, long C, void *dx_) {
    const ELEMENT *dy = dy_;
    ELEMENT *dx = dx_;
    for (long h = 0; h < H; h++)
        for (long w = 0; w < W; w++, dx += C) {
            const ELEMENT *top = dy + (2 * h * 2 * W + 2 * w) * C, *bottom = top + 2 * W * C;
            EACH(i, c, C) {
                lanes_t upper = LOAD(top + i, c) + LOAD(top + C + i, c);
                lanes_t lower = LOAD(bottom + i, c) + LOAD(bottom + C + i, c);
                STORE(dx + i, c, upper + lower);
            }
        }
}

/// Keys' cubic convolution with a = -0.75 at four neighbours; `weight` receives their weights, returns the second one's index.
static long KERNEL_LOCAL(cubic)(long target, long in, long out, float weight[4]) {
    const float a = -0.75f;
    float position = ((float)in / out) * (target + 0.5f) - 0.5f;
    float floor_ = floorf(position), t = position - floor_;
    for (int k = 0; k < 4; k++) {
        float x = fabsf(t + 1 - k);
        weight[k] = x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
    return (long)floor_;
}

INLINE long KERNEL_LOCAL(inside)(long i, long n) { return i < 0 ? 0 : i >= n ? n - 1 : i; }

void KERNEL_NAME(resize_bicubic)(
    const void *x_, long H, long W, long C, long h, long w, float *scratch, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    float weight[4];
    // Along the columns into scratch [H][w][C], then along the rows.
    for (long j = 0; j < w; j++) {
        long base = KERNEL_LOCAL(cubic)(j, W, w, weight);
        for (long r = 0; r < H; r++)
            EACH(i, c, C) {
                lanes_t sum = splat(0);
                for (int k = 0; k < 4; k++)
                    sum += weight[k] * LOAD(x + (r * W + KERNEL_LOCAL(inside)(base + k - 1, W)) * C + i, c);
                store_f32(scratch + (r * w + j) * C + i, c, sum);
            }
    }
    for (long r = 0; r < h; r++) {
        long base = KERNEL_LOCAL(cubic)(r, H, h, weight);
        EACH(i, c, w * C) {
            lanes_t sum = splat(0);
            for (int k = 0; k < 4; k++)
                sum += weight[k] * load_f32(scratch + KERNEL_LOCAL(inside)(base + k - 1, H) * w * C + i, c, 0);
            STORE(y + r * w * C + i, c, sum);
        }
    }
}
