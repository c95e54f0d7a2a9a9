// Small matrix products whose operands stay in cache. Each element is one chain of multiply-adds over k, in order: its value does
// not depend on the other rows and columns.

/// C[M][16 * vectors] (+)= sum over k of A[m * a_row + k * a_k] B[k][...], M <= 6.
INLINE void tile(int M, int vectors, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c, long ldc,
                 int accumulate) {
    lanes_t sum[6][TILE_VECTORS];
    for (int m = 0; m < M; m++)
        for (int n = 0; n < vectors; n++) sum[m][n] = accumulate ? load_f32(c + m * ldc + n * LANES, LANES, 0) : splat(0);
    for (long k = 0; k < K; k++, a += a_k, b += ldb) {
        lanes_t row[TILE_VECTORS];
        for (int n = 0; n < vectors; n++) row[n] = load_f32(b + n * LANES, LANES, 0);
        for (int m = 0; m < M; m++) {
            lanes_t factor = splat(a[m * a_row]);
            for (int n = 0; n < vectors; n++) sum[m][n] += factor * row[n];
        }
    }
    for (int m = 0; m < M; m++)
        for (int n = 0; n < vectors; n++) store_f32(c + m * ldc + n * LANES, LANES, sum[m][n]);
}

/// `tile` with its sizes as constants, so that the sums live in registers.
INLINE void tile_rows(int M, int vectors, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c,
                      long ldc, int accumulate) {
    switch (M) {
    case 6: tile(6, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 5: tile(5, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 4: tile(4, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 3: tile(3, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    case 2: tile(2, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    default: tile(1, vectors, K, a, a_row, a_k, b, ldb, c, ldc, accumulate); break;
    }
}

/// C[M][N] (+)= A B with N a multiple of 16; A is read with any strides, B and C by rows.
static void small_product(long M, long N, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c,
                          long ldc, int accumulate) {
    for (long n = 0; n < N; n += TILE_VECTORS * LANES) {
        long vectors = (N - n) / LANES;
        for (long m = 0; m < M; m += 6) {
            int rows = M - m < 6 ? (int)(M - m) : 6;
            const float *left = a + m * a_row, *right = b + n;
            float *out = c + m * ldc + n;
#define CASE(width) tile_rows(rows, width, K, left, a_row, a_k, right, ldb, out, ldc, accumulate)
#if TILE_VECTORS == 4
            if (vectors >= 4) CASE(4);
            else if (vectors == 3) CASE(3);
            else if (vectors == 2) CASE(2);
            else CASE(1);
#else
            (void)vectors;
            CASE(1);
#endif
#undef CASE
        }
    }
}
