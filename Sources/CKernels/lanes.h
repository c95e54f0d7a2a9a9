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

/// Visits columns 0..<n in steps of sixteen; `count` is 16 but for the last step.
#define EACH(i, count, n) \
    for (long i = 0, count = (n) < LANES ? (n) : LANES; i < (n); i += LANES, count = (n) - i < LANES ? (n) - i : LANES)

INLINE lanes_t splat(float x) { return (lanes_t){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

INLINE lanes_t load_f32(const float *p, long count, float rest) {
    lanes_t x;
    if (__builtin_expect(count == LANES, 1)) {
        memcpy(&x, p, sizeof x);
    } else {
        x = splat(rest);
        for (long i = 0; i < count; i++) x[i] = p[i];
    }
    return x;
}

INLINE void store_f32(float *p, long count, lanes_t x) {
    if (__builtin_expect(count == LANES, 1)) memcpy(p, &x, sizeof x);
    else for (long i = 0; i < count; i++) p[i] = x[i];
}

INLINE lanes_t load_bf16(const uint16_t *p, long count, float rest) {
    halves_t h;
    if (__builtin_expect(count == LANES, 1)) {
        memcpy(&h, p, sizeof h);
        return (lanes_t)(__builtin_convertvector(h, bits_t) << 16);
    }
    lanes_t x = splat(rest);
    for (long i = 0; i < count; i++) {
        uint32_t b = (uint32_t)p[i] << 16;
        float f;
        memcpy(&f, &b, 4);
        x[i] = f;
    }
    return x;
}

/// Rounds to nearest, ties to even; NaN stays NaN.
INLINE halves_t to_bf16(lanes_t x) {
    bits_t b = (bits_t)x;
    bits_t rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
    bits_t quiet = (b >> 16) | 0x40;
    bits_t nan = (bits_t)(x != x);
    return __builtin_convertvector((rounded & ~nan) | (quiet & nan), halves_t);
}

INLINE void store_bf16(uint16_t *p, long count, lanes_t x) {
    halves_t h = to_bf16(x);
    if (__builtin_expect(count == LANES, 1)) memcpy(p, &h, sizeof h);
    else for (long i = 0; i < count; i++) p[i] = h[i];
}

/// a where the mask is set, else b.
INLINE lanes_t choose(ints_t mask, lanes_t a, lanes_t b) { return (lanes_t)(((ints_t)a & mask) | ((ints_t)b & ~mask)); }
/// NaN in x stays NaN.
INLINE lanes_t at_least(lanes_t x, lanes_t low) { return choose(x < low, low, x); }
INLINE lanes_t at_most(lanes_t x, lanes_t high) { return choose(x > high, high, x); }

/// Sum of the lanes, always in the same pairs.
INLINE float lane_sum(lanes_t x) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    return x[0];
}

INLINE float lane_max(lanes_t x) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    return x[0];
}

/// e^x. Cody-Waite reduction and a degree 6 polynomial; relative error below 2e-7, infinities and NaN as in libm.
INLINE lanes_t lanes_exp(lanes_t x) {
    x = at_most(at_least(x, splat(-104.5f)), splat(89.5f));
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    lanes_t n = (x * 1.44269504088896341f + magic) - magic;
    lanes_t r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    lanes_t p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    // 2^n in two factors, so that neither leaves the range of normal numbers.
    ints_t whole = __builtin_convertvector(n, ints_t);
    ints_t half = whole >> 1;
    lanes_t first = (lanes_t)((half + 127) << 23);
    lanes_t second = (lanes_t)((whole - half + 127) << 23);
    return p * first * second;
}

INLINE lanes_t lanes_sigmoid(lanes_t x) { return 1.0f / (1.0f + lanes_exp(-x)); }

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
    lanes_t far = with_sign(1.0f - 2.0f / (lanes_exp(2.0f * a) + 1.0f), x);
    return choose(a < 0.625f, near, far);
}

/// The normal distribution function, erfc(-x / sqrt 2) / 2, by the Chebyshev fit of erfc in Numerical Recipes (6.2): relative
/// error below 1.2e-7 but for the rounding of x^2.
INLINE lanes_t normal_cdf(lanes_t x) {
    lanes_t z = at_most(magnitude(x) * 0.70710678118654752f, splat(10.0f)), t = 1.0f / (1.0f + 0.5f * z);
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
