// Small matrix products whose operands stay in cache. Each element is one chain of multiply-adds over k, in order: its value does
// not depend on the other rows and columns.

/// sum + a b; with `pairs` each 32-bit element holds two bfloat16 numbers of consecutive k, and both products are added.
INLINE lanes_t multiply_add(int pairs, lanes_t sum, lanes_t a, lanes_t b) {
#if LANES_BF16
    if (pairs) return (lanes_t)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
    (void)pairs;
    return sum + a * b;
}

/// C[M][16 * vectors] (+)= sum over k of A[m * a_row + k * a_k] B[k][...], M <= 6.
INLINE void tile(int pairs, int M, int vectors, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c, long ldc,
                 int accumulate) {
    lanes_t sum[6][TILE_VECTORS];
    for (int m = 0; m < M; m++)
        for (int n = 0; n < vectors; n++) sum[m][n] = accumulate ? load_f32(c + m * ldc + n * LANES, LANES, 0) : splat(0);
    for (long k = 0; k < K; k++, a += a_k, b += ldb) {
        lanes_t row[TILE_VECTORS];
        for (int n = 0; n < vectors; n++) row[n] = load_f32(b + n * LANES, LANES, 0);
        for (int m = 0; m < M; m++) {
            lanes_t factor = splat(a[m * a_row]);
            for (int n = 0; n < vectors; n++) sum[m][n] = multiply_add(pairs, sum[m][n], factor, row[n]);
        }
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < vectors; n++) store_f32(c + m * ldc + n * LANES, LANES, sum[m][n]);
}

/// `tile` with its sizes as constants, so that the sums live in registers.
INLINE void tile_rows(int pairs, int M, int vectors, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c,
                      long ldc, int accumulate) {
    switch (M) {
    case 6: tile(pairs, 6, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 5: tile(pairs, 5, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 4: tile(pairs, 4, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 3: tile(pairs, 3, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 2: tile(pairs, 2, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    default: tile(pairs, 1, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    }
}

/// C[M][N] (+)= A B with N a multiple of 16; A is read with any strides, B and C by rows.
INLINE void small_product_of(int pairs, long M, long N, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c,
                          long ldc, int accumulate) {
    // Column blocks of nearly equal width: five vectors go as three and two, not as four and one.
    long vectors_left = N / LANES, blocks_left = (vectors_left + TILE_VECTORS - 1) / TILE_VECTORS;
    for (long n = 0; n < N; blocks_left--) {
        long vectors = (vectors_left + blocks_left - 1) / blocks_left;
        for (long m = 0; m < M; m += 6) {
            int rows = M - m < 6 ? (int)(M - m) : 6;
            const float *left = a + m * a_row, *right = b + n;
            float *out = c + m * ldc + n;
#define CASE(width) tile_rows(pairs, rows, width, K, left, a_row, a_k, right, ldb, out, ldc, accumulate)
#if TILE_VECTORS == 4
            if (vectors >= 4) CASE(4);
            else if (vectors == 3) CASE(3);
            else if (vectors == 2) CASE(2);
            else CASE(1);
#else
            CASE(1);
#endif
#undef CASE
        }
        n += vectors * LANES;
        vectors_left -= vectors;
    }
}

static void small_product(long M, long N, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c,
                          long ldc, int accumulate) {
    small_product_of(0, M, N, K, a, a_row, a_k, b, ldb, c, ldc, accumulate);
}

#if LANES_BF16 && !LANES_AMX
/// The same over pairs of bfloat16: K counts pairs, and a and b are given in 32-bit units.
static void small_product_of_pairs(long M, long N, long K, const float *a, long a_row, long a_k, const float *b, long ldb,
                                   float *c, long ldc, int accumulate) {
    small_product_of(1, M, N, K, a, a_row, a_k, b, ldb, c, ldc, accumulate);
}

/// Products by AMX have something to begin and to end.
typedef int tile_shapes;
INLINE tile_shapes tiles_begin(void) { return 0; }
INLINE void tiles_end(tile_shapes before) { (void)before; }
#endif
