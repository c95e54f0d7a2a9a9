// tile.h's products of bfloat16 pairs on processors with AMX: a tile holds 16 rows of 16 units, and one instruction adds the product
// of two of them to a third. Each element is one chain over k, in order, as in tile.h.

enum { TILE_SIDE = 16 };

/// What LDTILECFG reads: rows and bytes a row of each tile.
typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_shapes;

/// Gives all eight tiles their full size.
///
/// - Returns: the shapes that a library may count on finding again; to be given to `tiles_end`.
INLINE tile_shapes tiles_begin(void) {
    static const tile_shapes full = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    tile_shapes before;
    _tile_storeconfig(&before);
    _tile_loadconfig(&full);
    return before;
}

INLINE void tiles_end(tile_shapes before) { _tile_loadconfig(&before); }

/// Where a tile's rows lie.
typedef struct {
    const float *units;
    long row_bytes;
} tile_source;

/// Up to 16 x 16 units as a tile, the rest zero: where they are, or, if they are too few or a column's follow each other
/// (row_step = 1), copied to `square`.
INLINE tile_source tile_of(const float *units, long row_step, long column_step, long rows, long columns, float *square) {
    if (column_step == 1 && rows == TILE_SIDE && columns == TILE_SIDE)
        return (tile_source){units, row_step * (long)sizeof(float)};
    const int lies_right = column_step == 1;
    long lines = lies_right ? rows : columns, width = lies_right ? columns : rows, step = lies_right ? row_step : column_step;
    lanes_t copy[TILE_SIDE];
    for (long i = 0; i < TILE_SIDE; i++) copy[i] = i < lines ? load_f32(units + i * step, width, 0) : splat(0);
    if (!lies_right) transpose_square(copy);
    memcpy(square, copy, sizeof copy);
    return (tile_source){square, TILE_SIDE * sizeof(float)};
}

/// C[rows][16 * tiles] (+)= A B for up to 16 rows and 4 tiles.
INLINE void tile_row(
    int tiles, long rows, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c, long ldc, int accumulate) {
    _Alignas(64) float square[TILE_SIDE * TILE_SIDE], sums[TILE_SIDE * 4 * TILE_SIDE];
    const long sums_row = 4 * TILE_SIDE * sizeof(float);
    // Rows that are not there are neither read nor written.
    float *out = rows == TILE_SIDE ? c : sums;
    const long out_row = rows == TILE_SIDE ? ldc * (long)sizeof(float) : sums_row;
    if (accumulate && rows < TILE_SIDE)
        for (long r = 0; r < rows; r++) memcpy(sums + r * 4 * TILE_SIDE, c + r * ldc, tiles * TILE_SIDE * sizeof(float));
#define OPEN(t) if (t < tiles) { if (accumulate) _tile_loadd(t, out + t * TILE_SIDE, out_row); else _tile_zero(t); }
    OPEN(0) OPEN(1) OPEN(2) OPEN(3)
#undef OPEN
    for (long k = 0; k < K; k += TILE_SIDE) {
        long pairs = K - k < TILE_SIDE ? K - k : TILE_SIDE;
        tile_source left = tile_of(a + k * a_k, a_row, a_k, rows, pairs, square);
        _tile_loadd(4, left.units, left.row_bytes);
#define ADD(t, register_) \
    if (t < tiles) { \
        tile_source right = tile_of(b + k * ldb + t * TILE_SIDE, ldb, 1, pairs, TILE_SIDE, square); \
        _tile_loadd(register_, right.units, right.row_bytes); \
        _tile_dpbf16ps(t, 4, register_); \
    }
        ADD(0, 5) ADD(1, 6) ADD(2, 7) ADD(3, 5)
#undef ADD
    }
#define CLOSE(t) if (t < tiles) _tile_stored(t, out + t * TILE_SIDE, out_row);
    CLOSE(0) CLOSE(1) CLOSE(2) CLOSE(3)
#undef CLOSE
    if (rows < TILE_SIDE)
        for (long r = 0; r < rows; r++) memcpy(c + r * ldc, sums + r * 4 * TILE_SIDE, tiles * TILE_SIDE * sizeof(float));
}

/// C[M][N] (+)= A B over pairs of bfloat16 with N a multiple of 16: K counts pairs, a and b are given in 32-bit units, a with its
/// rows (a_k = 1) or its columns (a_row = 1) in order. Between `tiles_begin` and `tiles_end`.
static void small_product_of_pairs(
    long M, long N, long K, const float *a, long a_row, long a_k, const float *b, long ldb, float *c, long ldc, int accumulate) {
    for (long m = 0; m < M; m += TILE_SIDE) {
        long rows = M - m < TILE_SIDE ? M - m : TILE_SIDE;
        for (long n = 0; n < N; n += 4 * TILE_SIDE) {
            int tiles = N - n < 4 * TILE_SIDE ? (int)((N - n) / TILE_SIDE) : 4;
            tile_row(tiles, rows, K, a + m * a_row, a_row, a_k, b + n, ldb, c + m * ldc + n, ldc, accumulate);
        }
    }
}
