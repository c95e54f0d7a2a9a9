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

/// Rows that are reduced side by side: the chain of one row's sum alone leaves the processor waiting.
enum { ROWS_AT_ONCE = 4 };

/// body(some, r) for rows r, `some` of them at once, a constant.
#define EACH_ROWS(r, rows, body) \
    do { \
        long r = 0; \
        for (; r + ROWS_AT_ONCE <= (rows); r += ROWS_AT_ONCE) body(ROWS_AT_ONCE, r); \
        for (; r < (rows); r++) body(1, r); \
    } while (0)

/// Visits columns 0..<n in steps of sixteen: first the full steps, in which `count` is the constant 16, then the rest, if any.
#define EACH(i, count, n) \
    _Pragma("clang loop unroll(full)") for (int rest_ = 0; rest_ < 2; rest_++) \
        for (long whole_ = (n) / LANES * LANES, i = rest_ ? whole_ : 0, count = rest_ ? (n) - whole_ : LANES, \
                  end_ = rest_ ? (n) : whole_; \
             i < end_; i += LANES)

INLINE lanes_t splat(float x) { return (lanes_t){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

/// Each lane its number.
INLINE ints_t lane_numbers(void) { return (ints_t){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

/// `count` elements, the other lanes `rest`.
INLINE lanes_t load_f32(const float *p, long count, float rest) {
    lanes_t x;
    if (count == LANES) {
        memcpy(&x, p, sizeof x);
    } else {
#if LANES_AVX512
        return (lanes_t)_mm512_mask_loadu_ps((__m512)splat(rest), (__mmask16)((1u << count) - 1), p);
#else
        x = splat(rest);
        memcpy(&x, p, count * sizeof(float));
#endif
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

/// ln 2^-126, the smallest normal number.
#define LOWEST_EXPONENT -87.3365448f

/// e^x with a relative error of 2e-7 near zero and 1e-8 |x| far from it, 6e-8 |x| without fused multiply-adds; infinities and NaN as
/// in libm. Less than the smallest normal number is zero: Intel's cores take 150 cycles for a register with one denormal result, and
/// every hidden key has one.
INLINE lanes_t lanes_exp(lanes_t x) {
    lanes_t inside = at_most(at_least(x, splat(LOWEST_EXPONENT)), splat(89.5f));
    lanes_t n = nearest(inside * LOG2_E);
    return choose(x < LOWEST_EXPONENT, splat(0), power_of_two(inside * LOG2_E - n, n));
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
    x = at_most(at_least(x, splat(-125.0f)), splat(125.0f));
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

/// table[index & 15] in each lane.
INLINE lanes_t lookup(const float table[LANES], ints_t index) {
#if LANES_AVX512
    return (lanes_t)_mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
#elif LANES_AVX2
    __m256 low = _mm256_loadu_ps(table), high = _mm256_loadu_ps(table + 8), found[2];
    __m256i numbers[2];
    memcpy(numbers, &index, sizeof index);
    for (int i = 0; i < 2; i++) {
        __m256 upper = (__m256)_mm256_slli_epi32(numbers[i], 28);
        found[i] = _mm256_blendv_ps(
            _mm256_permutevar8x32_ps(low, numbers[i]), _mm256_permutevar8x32_ps(high, numbers[i]), upper);
    }
    lanes_t x;
    memcpy(&x, found, sizeof x);
    return x;
#else
    lanes_t x;
    for (int i = 0; i < LANES; i++) x[i] = table[index[i] & 15];
    return x;
#endif
}

#define TAIL_SCALE 2.375f

/// Polynomials in t = u - n, n the whole number nearest to u, for (1 - F(a)) / TAIL_SCALE, u = TAIL_SCALE a, F the normal
/// distribution function: row d holds the factors of t^d for n = 0...15. From tools/fit-normal-tail.
static const float normal_tail_factors[6][LANES] = {
    {0.210526317f, 0.141835093f, 0.0841534808f, 0.0434805155f, 0.0193981025f, 0.00742492639f, 0.00242664828f,
     0.000674718176f, 0.000159158153f, 3.17825834e-05f, 5.36375182e-06f, 7.63983849e-07f, 9.17418035e-08f, 9.27977339e-09f,
     7.90099486e-10f, 0},
    {-0.0707266107f, -0.0647270456f, -0.0496129096f, -0.0318500176f, -0.0171250049f, -0.00771183567f, -0.0029086438f,
     -0.000918816018f, -0.000243092116f, -5.38661625e-05f, -9.99682106e-06f, -1.55383771e-06f, -2.02275544e-07f,
     -2.20531344e-08f, -2.01363437e-09f, 0},
    {-4.91195919e-08f, 0.00573734893f, 0.00879541878f, 0.00846976973f, 0.00607211562f, 0.00341808097f, 0.00154701457f,
     0.000570119533f, 0.00017237381f, 4.29655956e-05f, 8.85837107e-06f, 1.5142441e-06f, 2.14982691e-07f, 2.53834838e-08f,
     2.49509013e-09f, 0},
    {0.00209018122f, 0.00157330628f, 0.000426273764f, -0.000560457527f, -0.00092918874f, -0.000781964569f, -0.00046253833f,
     -0.000208708923f, -7.43413402e-05f, -2.12810519e-05f, -4.94845426e-06f, -9.41192354e-07f, -1.47132411e-07f,
     -1.897026e-08f, -2.02260364e-09f, 0},
    {-1.28846989e-06f, -0.000236803855f, -0.000295285863f, -0.0001752955f, -1.56925016e-05f, 7.12592955e-05f,
     7.68989412e-05f, 4.79620103e-05f, 2.14185948e-05f, 7.3158285e-06f, 1.96979272e-06f, 4.2512093e-07f, 7.43082182e-08f,
     1.05926308e-08f, 1.23748589e-09f, 0},
    {-5.38802742e-05f, -3.27164234e-05f, 9.97753705e-06f, 3.33079588e-05f, 2.63438851e-05f, 7.70310453e-06f,
     -4.17973979e-06f, -6.25808843e-06f, -3.97035365e-06f, -1.68984104e-06f, -5.34247476e-07f, -1.30825654e-07f,
     -2.53661483e-08f, -3.94638144e-09f, -4.9697535e-10f, 0}};

/// u of `normal_tail` for x.
INLINE lanes_t tail_argument(lanes_t x) { return at_most(magnitude(x) * TAIL_SCALE, splat(15)); }

/// (1 - F(a)) / TAIL_SCALE, F the normal distribution function, u = TAIL_SCALE a in 0...15: relative error below 6e-7 for a < 3, of
/// a (1 - F(a)) beyond an absolute one below 5e-9; 0 from a = 6.1 on.
INLINE lanes_t normal_tail(lanes_t u) {
    // 1.5 * 2^23 leaves no room for a fraction, and the last bits hold the whole number.
    lanes_t shifted = u + 12582912.0f, t = u - (shifted - 12582912.0f);
    ints_t n = (ints_t)shifted;
    lanes_t p = lookup(normal_tail_factors[5], n);
    for (int d = 4; d >= 0; d--) p = p * t + lookup(normal_tail_factors[d], n);
    return p;
}

/// The normal distribution function.
INLINE lanes_t normal_cdf(lanes_t x) {
    lanes_t tail = TAIL_SCALE * normal_tail(tail_argument(x));
    return choose(x < 0.0f, tail, 1.0f - tail);
}

/// x F(x) = max(x, 0) - |x| (1 - F(|x|)): both terms are exact where x is near zero or large.
INLINE lanes_t gelu_erf(lanes_t x) {
    lanes_t u = tail_argument(x);
    return choose(x < 0.0f, splat(0), x) - u * normal_tail(u);
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

/// ln x for 1 <= x < infinity by exponent and mantissa; NaN stays NaN.
INLINE lanes_t lanes_log(lanes_t x) {
    ints_t exponent = ((ints_t)x >> 23) - 127;
    lanes_t mantissa = (lanes_t)(((bits_t)x & 0x7fffffu) | 0x3f800000u);
    return __builtin_convertvector(exponent, lanes_t) * 0.693147180559945f + lanes_log1p(mantissa - 1.0f) + (x - x);
}
