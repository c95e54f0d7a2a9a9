// Sixteen fp32 lanes as one value. The width is the same on every processor (one AVX-512 register, two AVX2, four SSE or NEON),
// so reductions add in the same order everywhere; only fused multiply-adds differ between levels.

// Every function that passes a vector is inlined, so no calling convention is involved.
#pragma clang diagnostic ignored "-Wpsabi"

#define INLINE static inline __attribute__((always_inline))

typedef float lanes_t __attribute__((vector_size(64)));
typedef int32_t ints_t __attribute__((vector_size(64)));
typedef uint32_t bits_t __attribute__((vector_size(64)));
typedef uint16_t halves_t __attribute__((vector_size(32)));

enum { LANES = 16 };

/// Visits columns 0..<n in steps of sixteen: first the full steps, in which `count` is the constant 16, then the rest, if any.
#define EACH(i, count, n) \
    _Pragma("clang loop unroll(full)") for (int rest_ = 0; rest_ < 2; rest_++) \
        for (long whole_ = (n) / LANES * LANES, i = rest_ ? whole_ : 0, count = rest_ ? (n) - whole_ : LANES, \
                  end_ = rest_ ? (n) : whole_; \
             i < end_; i += LANES)

INLINE lanes_t splat(float x) { return (lanes_t){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

/// `count` elements, the other lanes `rest`.
INLINE lanes_t load_f32(const float *p, long count, float rest) {
    lanes_t x;
    if (count == LANES) {
        memcpy(&x, p, sizeof x);
    } else {
        x = splat(rest);
        memcpy(&x, p, count * sizeof(float));
    }
    return x;
}

INLINE void store_f32(float *p, long count, lanes_t x) {
    if (count == LANES) memcpy(p, &x, sizeof x);
    else memcpy(p, &x, count * sizeof(float));
}

INLINE lanes_t load_bf16(const uint16_t *p, long count, float rest) {
    halves_t h = {0};
    if (count == LANES) {
        memcpy(&h, p, sizeof h);
        return (lanes_t)(__builtin_convertvector(h, bits_t) << 16);
    }
    memcpy(&h, p, count * sizeof(uint16_t));
    lanes_t x = (lanes_t)(__builtin_convertvector(h, bits_t) << 16);
    for (int i = (int)count; i < LANES; i++) x[i] = rest;
    return x;
}

/// Rounds to nearest, ties to even; NaN stays NaN.
INLINE halves_t to_bf16(lanes_t x) {
#if LANES_BF16
    return (halves_t)_mm512_cvtneps_pbh((__m512)x);
#else
    bits_t b = (bits_t)x;
    bits_t rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
    bits_t quiet = (b >> 16) | 0x40;
    bits_t nan = (bits_t)(x != x);
    return __builtin_convertvector((rounded & ~nan) | (quiet & nan), halves_t);
#endif
}

INLINE void store_bf16(uint16_t *p, long count, lanes_t x) {
    halves_t h = to_bf16(x);
    if (count == LANES) memcpy(p, &h, sizeof h);
    else memcpy(p, &h, count * sizeof(uint16_t));
}

/// a where the mask is set, else b.
INLINE lanes_t choose(ints_t mask, lanes_t a, lanes_t b) { return (lanes_t)(((ints_t)a & mask) | ((ints_t)b & ~mask)); }
/// NaN in x stays NaN.
INLINE lanes_t at_least(lanes_t x, lanes_t low) { return choose(x < low, low, x); }
INLINE lanes_t at_most(lanes_t x, lanes_t high) { return choose(x > high, high, x); }

/// The upper half folded onto the lower one, for reductions in pairs whose order never changes.
#define FOLDED(x, n) \
    __builtin_shufflevector(x, x, 0 ^ n, 1 ^ n, 2 ^ n, 3 ^ n, 4 ^ n, 5 ^ n, 6 ^ n, 7 ^ n, 8 ^ n, 9 ^ n, 10 ^ n, 11 ^ n, 12 ^ n, \
                            13 ^ n, 14 ^ n, 15 ^ n)

/// Sum of the lanes.
INLINE float lane_sum(lanes_t x) {
    x += FOLDED(x, 8);
    x += FOLDED(x, 4);
    x += FOLDED(x, 2);
    x += FOLDED(x, 1);
    return x[0];
}

/// Largest lane.
INLINE float lane_max(lanes_t x) {
    x = at_least(x, FOLDED(x, 8));
    x = at_least(x, FOLDED(x, 4));
    x = at_least(x, FOLDED(x, 2));
    x = at_least(x, FOLDED(x, 1));
    return x[0];
}

/// Transposes a 16 x 16 square: interleaving rows k and k + 8 four times puts column k into row k.
INLINE void transpose_square(lanes_t rows[LANES]) {
    for (int round = 0; round < 4; round++) {
        lanes_t mixed[LANES];
        for (int k = 0; k < 8; k++) {
            mixed[2 * k] = __builtin_shufflevector(
                rows[k], rows[k + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            mixed[2 * k + 1] = __builtin_shufflevector(
                rows[k], rows[k + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(rows, mixed, sizeof mixed);
    }
}

/// 2^f 2^n for |f| <= 1/2 and whole n; a minimax polynomial of degree 5 with relative error 1e-7.
INLINE lanes_t power_of_two(lanes_t f, lanes_t n) {
    lanes_t p = splat(0.0013264724f);
    p = p * f + 0.009671513f;
    p = p * f + 0.055507336f;
    p = p * f + 0.24022242f;
    p = p * f + 0.693147f;
    p = p * f + 1.0f;
#if LANES_AVX512
    return (lanes_t)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    // 2^n in two factors, so that neither leaves the range of normal numbers.
    ints_t whole = __builtin_convertvector(n, ints_t);
    ints_t half = whole >> 1;
    lanes_t first = (lanes_t)((half + 127) << 23);
    lanes_t second = (lanes_t)((whole - half + 127) << 23);
    return p * first * second;
#endif
}

/// The nearest whole number of |x| < 2^22: adding 1.5 * 2^23 leaves no room for a fraction.
INLINE lanes_t nearest(lanes_t x) { return (x + 12582912.0f) - 12582912.0f; }

#define LOG2_E 1.44269504088896341f

/// e^x with a relative error of 2e-7 near zero and 1e-8 |x| far from it; infinities and NaN as in libm.
INLINE lanes_t lanes_exp(lanes_t x) {
    x = at_most(at_least(x, splat(-104.5f)), splat(89.5f));
    lanes_t n = nearest(x * LOG2_E);
    return power_of_two(x * LOG2_E - n, n);
}

/// 1 / x for 1 <= x < 2^126.
INLINE lanes_t reciprocal(lanes_t x) {
#if LANES_AVX512
    lanes_t r = (lanes_t)_mm512_rcp14_ps((__m512)x);
    return r * (2.0f - x * r);
#else
    return 1.0f / x;
#endif
}

/// 1 / (1 + 2^-x).
INLINE lanes_t sigmoid_of_base_two(lanes_t x) {
    x = at_most(at_least(x, splat(-125.0f)), splat(150.0f));
    lanes_t n = nearest(x);
    return reciprocal(1.0f + power_of_two(n - x, -n));
}

INLINE lanes_t lanes_sigmoid(lanes_t x) { return sigmoid_of_base_two(x * LOG2_E); }

INLINE lanes_t magnitude(lanes_t x) { return (lanes_t)((bits_t)x & 0x7fffffffu); }
INLINE lanes_t with_sign(lanes_t x, lanes_t sign) { return (lanes_t)((bits_t)x | ((bits_t)sign & 0x80000000u)); }

/// tanh x: an odd polynomial near zero (Cephes), else 1 - 2 / (e^2|x| + 1).
INLINE lanes_t lanes_tanh(lanes_t x) {
    lanes_t a = magnitude(x), z = x * x;
    lanes_t p = splat(-5.70498872745e-3f);
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    lanes_t near = p * z * x + x;
    lanes_t far = with_sign(1.0f - 2.0f * reciprocal(lanes_exp(2.0f * at_most(a, splat(40.0f))) + 1.0f), x);
    return choose(a < 0.625f, near, far);
}

/// The normal distribution function, erfc(-x / sqrt 2) / 2, by the Chebyshev fit of erfc in Numerical Recipes (6.2): relative
/// error below 1.2e-7 but for the rounding of x^2.
INLINE lanes_t normal_cdf(lanes_t x) {
    lanes_t z = at_most(magnitude(x) * 0.70710678118654752f, splat(10.0f)), t = reciprocal(1.0f + 0.5f * z);
    lanes_t p = splat(0.17087277f);
    p = p * t - 0.82215223f;
    p = p * t + 1.48851587f;
    p = p * t - 1.13520398f;
    p = p * t + 0.27886807f;
    p = p * t - 0.18628806f;
    p = p * t + 0.09678418f;
    p = p * t + 0.37409196f;
    p = p * t + 1.00002368f;
    p = p * t - 1.26551223f;
    lanes_t tail = 0.5f * t * lanes_exp(p - z * z);
    return choose(x < 0.0f, tail, 1.0f - tail);
}

/// ln(1 + u) for 0 <= u <= 1 by the series of 2 artanh(u / (2 + u)).
INLINE lanes_t lanes_log1p(lanes_t u) {
    lanes_t s = u / (2.0f + u), z = s * s;
    lanes_t p = splat(1.0f / 17);
    p = p * z + 1.0f / 15;
    p = p * z + 1.0f / 13;
    p = p * z + 1.0f / 11;
    p = p * z + 1.0f / 9;
    p = p * z + 1.0f / 7;
    p = p * z + 1.0f / 5;
    p = p * z + 1.0f / 3;
    return 2.0f * s * (p * z + 1.0f);
}
