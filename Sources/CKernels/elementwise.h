// Kernels that treat every element alike.

// GELU with the tanh approximation is x sigmoid(2 u) with u = sqrt(2/pi) (x + 0.044715 x^3); the constants carry 2 log2 e.

INLINE lanes_t KERNEL_LOCAL(value)(lanes_t x, kernel_activation f) {
    switch (f) {
    case kernel_silu: return x * lanes_sigmoid(x);
    case kernel_gelu_tanh: return x * sigmoid_of_base_two(x * (2.3022082f + 0.10294324f * x * x));
    case kernel_gelu_erf: return gelu_erf(x);
    case kernel_quick_gelu: return x * lanes_sigmoid(1.702f * x);
    case kernel_relu: return choose(x < 0.0f, splat(0), x);
    case kernel_tanh: return lanes_tanh(x);
    case kernel_sigmoid: return lanes_sigmoid(x);
    case kernel_exp: return lanes_exp(x);
    case kernel_sqrt: return __builtin_elementwise_sqrt(x);
    case kernel_softplus: return choose(x < 0.0f, splat(0), x) + lanes_log1p(lanes_exp(-magnitude(x)));
    case kernel_square: return x * x;
    }
}

INLINE lanes_t KERNEL_LOCAL(slope)(lanes_t x, kernel_activation f) {
    lanes_t s;
    switch (f) {
    case kernel_silu: s = lanes_sigmoid(x); return s * (1.0f + x * (1.0f - s));
    case kernel_gelu_tanh:
        s = sigmoid_of_base_two(x * (2.3022082f + 0.10294324f * x * x));
        return s + x * s * (1.0f - s) * 1.5957691216057308f * (1.0f + 0.134145f * x * x);
    case kernel_gelu_erf: return normal_cdf(x) + x * 0.3989422804014327f * lanes_exp(-0.5f * x * x);
    case kernel_quick_gelu: s = lanes_sigmoid(1.702f * x); return s * (1.0f + 1.702f * x * (1.0f - s));
    case kernel_relu: return choose(x > 0.0f, splat(1), splat(0));
    case kernel_tanh: s = lanes_tanh(x); return 1.0f - s * s;
    case kernel_sigmoid: s = lanes_sigmoid(x); return s * (1.0f - s);
    case kernel_exp: return lanes_exp(x);
    case kernel_sqrt: return 0.5f / __builtin_elementwise_sqrt(x);
    case kernel_softplus: return lanes_sigmoid(x);
    case kernel_square: return 2.0f * x;
    }
}

#define FOR_EACH_ACTIVATION(ROW) \
    ROW(kernel_silu) ROW(kernel_gelu_tanh) ROW(kernel_gelu_erf) ROW(kernel_quick_gelu) ROW(kernel_relu) ROW(kernel_tanh) \
    ROW(kernel_sigmoid) ROW(kernel_exp) ROW(kernel_sqrt) ROW(kernel_softplus) ROW(kernel_square)

void KERNEL_NAME(activate)(const void *x_, long n, kernel_activation f, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    switch (f) {
#define ROW(kind) \
    case kind: EACH(i, c, n) STORE(y + i, c, KERNEL_LOCAL(value)(LOAD(x + i, c), kind)); break;
        FOR_EACH_ACTIVATION(ROW)
#undef ROW
    }
}

void KERNEL_NAME(activate_backward)(const void *dy_, const void *x_, long n, kernel_activation f, void *dx_) {
    const ELEMENT *dy = dy_, *x = x_;
    ELEMENT *dx = dx_;
    switch (f) {
#define ROW(kind) \
    case kind: EACH(i, c, n) STORE(dx + i, c, LOAD(dy + i, c) * KERNEL_LOCAL(slope)(LOAD(x + i, c), kind)); break;
        FOR_EACH_ACTIVATION(ROW)
#undef ROW
    }
}
#undef FOR_EACH_ACTIVATION

void KERNEL_NAME(add)(const void *a_, const void *b_, float scale, long n, void *y_) {
    const ELEMENT *a = a_, *b = b_;
    ELEMENT *y = y_;
    EACH(i, c, n) STORE(y + i, c, LOAD(a + i, c) + scale * LOAD(b + i, c));
}

void KERNEL_NAME(multiply)(const void *a_, const void *b_, long n, void *y_) {
    const ELEMENT *a = a_, *b = b_;
    ELEMENT *y = y_;
    EACH(i, c, n) STORE(y + i, c, LOAD(a + i, c) * LOAD(b + i, c));
}

void KERNEL_NAME(affine)(const void *a_, float scale, float offset, long n, void *y_) {
    const ELEMENT *a = a_;
    ELEMENT *y = y_;
    EACH(i, c, n) STORE(y + i, c, scale * LOAD(a + i, c) + offset);
}

void KERNEL_NAME(minimum)(const void *a_, const void *b_, long n, void *y_) {
    const ELEMENT *a = a_, *b = b_;
    ELEMENT *y = y_;
    EACH(i, c, n) {
        lanes_t first = LOAD(a + i, c), second = LOAD(b + i, c);
        STORE(y + i, c, choose((first <= second) | (first != first), first, second));
    }
}

void KERNEL_NAME(minimum_backward)(const void *dy_, const void *a_, const void *b_, int first, long n, void *dx_) {
    const ELEMENT *dy = dy_, *a = a_, *b = b_;
    ELEMENT *dx = dx_;
    ints_t flip = (ints_t){} + (first ? 0 : -1);
    EACH(i, c, n) {
        ints_t taken = (ints_t)(LOAD(a + i, c) <= LOAD(b + i, c)) ^ flip;
        STORE(dx + i, c, choose(taken, LOAD(dy + i, c), splat(0)));
    }
}

void KERNEL_NAME(clamp)(const void *x_, float low, float high, long n, void *y_) {
    const ELEMENT *x = x_;
    ELEMENT *y = y_;
    EACH(i, c, n) STORE(y + i, c, at_most(at_least(LOAD(x + i, c), splat(low)), splat(high)));
}

void KERNEL_NAME(clamp_backward)(const void *dy_, const void *x_, float low, float high, long n, void *dx_) {
    const ELEMENT *dy = dy_, *x = x_;
    ELEMENT *dx = dx_;
    EACH(i, c, n) {
        lanes_t value = LOAD(x + i, c);
        STORE(dx + i, c, choose((value >= low) & (value <= high), LOAD(dy + i, c), splat(0)));
    }
}

void KERNEL_NAME(multiply_columns)(const void *a_, const float *b, long M, long D, void *y_) {
    const ELEMENT *a = a_;
    ELEMENT *y = y_;
    for (long m = 0; m < M; m++, a += D, y += D)
        EACH(i, c, D) STORE(y + i, c, LOAD(a + i, c) * load_f32(b + i, c, 0));
}

void KERNEL_NAME(multiply_rows)(const void *a_, const float *b, long M, long D, void *y_) {
    const ELEMENT *a = a_;
    ELEMENT *y = y_;
    for (long m = 0; m < M; m++, a += D, y += D)
        EACH(i, c, D) STORE(y + i, c, LOAD(a + i, c) * b[m]);
}

void KERNEL_NAME(add_columns)(const void *a_, const float *b, long M, long D, void *y_) {
    const ELEMENT *a = a_;
    ELEMENT *y = y_;
    for (long m = 0; m < M; m++, a += D, y += D)
        EACH(i, c, D) STORE(y + i, c, LOAD(a + i, c) + load_f32(b + i, c, 0));
}

void KERNEL_NAME(gated_add)(const void *base_, const void *y_, const float *gate, long M, long D, void *out_) {
    const ELEMENT *base = base_, *y = y_;
    ELEMENT *out = out_;
    for (long m = 0; m < M; m++, base += D, y += D, out += D)
        EACH(i, c, D) STORE(out + i, c, LOAD(base + i, c) + load_f32(gate + i, c, 0) * LOAD(y + i, c));
}

void KERNEL_NAME(gated_add_backward)(
    const void *dy_, const void *y_, const float *gate, long M, long D, void *dx_, float *dgate) {
    const ELEMENT *dy = dy_, *y = y_;
    ELEMENT *dx = dx_;
    memset(dgate, 0, D * sizeof(float));
    for (long m = 0; m < M; m++, dy += D, y += D, dx += D)
        EACH(i, c, D) {
            lanes_t upstream = LOAD(dy + i, c);
            STORE(dx + i, c, upstream * load_f32(gate + i, c, 0));
            store_f32(dgate + i, c, load_f32(dgate + i, c, 0) + upstream * LOAD(y + i, c));
        }
}

void KERNEL_NAME(adam)(
    const float *p, const float *g, const float *m, const float *v, kernel_adam_step s, long n, float *p_out, float *m_out,
    float *v_out) {
    EACH(i, c, n) {
        lanes_t gradient = load_f32(g + i, c, 0);
        lanes_t first = s.kept1 * load_f32(m + i, c, 0) + s.added1 * gradient;
        lanes_t second = s.kept2 * load_f32(v + i, c, 0) + s.added2 * gradient * gradient;
        lanes_t decayed = load_f32(p + i, c, 0) * s.decay;
        lanes_t step = s.step_size * first / (__builtin_elementwise_sqrt(second) * s.root_scale + s.epsilon);
        store_f32(p_out + i, c, decayed - step);
        store_f32(m_out + i, c, first);
        store_f32(v_out + i, c, second);
    }
}
