/* The loops over all rows. The including file defines TARGET, the attribute of its functions, and for 64 rows at once:
 *   word_f64(values, lo, hi), word_i64(...), word_i32(...)   those within bounds
 *   word_set8(numbers, mk_set8 *)                            those in a set of bytes
 *   word_any16(numbers, wanted, count), word_any32(...)      those equal to one of a few numbers */
#include <math.h>
#include <string.h>

/* Above this many a table costs less than a comparison with each. */
#define MAX_COMPARED 8
#define PENDING 256 /* rows of a box whose distance is computed together */

MK_INLINE uint64_t low_bits(size_t n) { return n < 64 ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0; }

/* out[i] = word for each 64 rows, where `v` points at them; the last rows are copied to whole 64. */
#define EACH_WORD(type, values, n, word)                         \
    for (size_t row = 0; row < (n); row += 64) {                 \
        type last[64] = {0};                                     \
        const type *v = (values) + row;                          \
        if ((n) - row < 64) v = memcpy(last, v, ((n) - row) * sizeof(type)); \
        out[row / 64] = (word) & low_bits((n) - row);            \
    }

TARGET static void within_f64(const double *values, size_t n, double lo, double hi, uint64_t *out) {
    EACH_WORD(double, values, n, word_f64(v, lo, hi));
}

TARGET static void within_i64(const int64_t *values, size_t n, int64_t lo, int64_t hi, uint64_t *out) {
    EACH_WORD(int64_t, values, n, word_i64(v, lo, hi));
}

TARGET static void member_u8(const uint8_t *numbers, size_t n, mk_set wanted, uint64_t *out) {
    mk_set8 set = {{0}, {0}, {0}};
    for (uint32_t i = 0; i < wanted.size && i < 256; i++) {
        if (!wanted.table[i]) continue;
        set.table[i] = 1;
        (i < 128 ? set.low : set.high)[i & 15] |= (uint8_t)(1 << (i >> 4 & 7));
    }
    EACH_WORD(uint8_t, numbers, n, word_set8(v, &set));
}

/* The wanted numbers if they are few enough to compare with each: their count, or MAX_COMPARED + 1. */
TARGET MK_INLINE int few_wanted(mk_set set, uint32_t end, uint32_t *wanted) {
    int count = 0;
    for (uint32_t i = 0; i < set.size && i < end; i++) {
        if (!set.table[i]) continue;
        if (count == MAX_COMPARED) return MAX_COMPARED + 1;
        wanted[count++] = i;
    }
    return count;
}

#define LOOK_UP(type)                                                                          \
    TARGET MK_INLINE uint64_t look_up_##type(const type *v, mk_set set) {                      \
        uint64_t bits = 0;                                                                     \
        uint32_t last = set.size - 1; /* hidden rows may have larger numbers */                \
        for (int i = 0; i < 64; i++) {                                                         \
            uint32_t number = v[i] < set.size ? v[i] : last;                                   \
            bits |= (uint64_t)(set.table[number] & (v[i] < set.size)) << i;                    \
        }                                                                                      \
        return bits;                                                                           \
    }
LOOK_UP(uint16_t)
LOOK_UP(uint32_t)

TARGET static void member_u16(const uint16_t *numbers, size_t n, mk_set set, uint64_t *out) {
    uint32_t wanted[MAX_COMPARED];
    int count = few_wanted(set, 1 << 16, wanted);
    if (count <= MAX_COMPARED) {
        EACH_WORD(uint16_t, numbers, n, word_any16(v, wanted, count));
    } else {
        EACH_WORD(uint16_t, numbers, n, look_up_uint16_t(v, set));
    }
}

TARGET static void member_u32(const uint32_t *numbers, size_t n, mk_set set, uint64_t *out) {
    uint32_t wanted[MAX_COMPARED];
    int count = few_wanted(set, UINT32_MAX, wanted);
    if (count <= MAX_COMPARED) {
        EACH_WORD(uint32_t, numbers, n, word_any32(v, wanted, count));
    } else {
        EACH_WORD(uint32_t, numbers, n, look_up_uint32_t(v, set));
    }
}

/* ---- places ---- */

/* sin(x) from 0 to pi/2 by its Taylor series: off by at most 6e-12, and by as much of itself. */
TARGET MK_INLINE double short_sine(double x) {
    double y = x * x;
    double p = -1.0 / 1307674368000;
    p = p * y + 1.0 / 6227020800;
    p = p * y - 1.0 / 39916800;
    p = p * y + 1.0 / 362880;
    p = p * y - 1.0 / 5040;
    p = p * y + 1.0 / 120;
    p = p * y - 1.0 / 6;
    return x + x * y * p;
}

/* Half of a difference in radians, folded to 0..pi/2, where its sine is the same. */
TARGET MK_INLINE double half_angle(double units) {
    double half = fabs(units) * (M_PI / 180 / 1e7 / 2), other = M_PI - half;
    return half < other ? half : other;
}

/* Decide on the rows of `at`: their number is at most PENDING. The margin, which is far above the error of the series
 * and of rounding, keeps what is close to the limit for an exact formula. */
TARGET static void decide(const int32_t *lat, const int32_t *lon, const size_t *at, size_t count,
                          const mk_circle *circle, uint64_t *out, uint64_t *unsure) {
    double lats[PENDING], lons[PENDING], chord[PENDING];
    for (size_t i = 0; i < count; i++) lats[i] = lat[at[i]], lons[i] = lon[at[i]];
    for (size_t i = 0; i < count; i++) {
        double a = short_sine(half_angle(lats[i] - circle->lat)), b = short_sine(half_angle(lons[i] - circle->lon));
        double cos_lat = short_sine((9e8 - fabs(lats[i])) * (M_PI / 180 / 1e7));
        chord[i] = a * a + circle->cos_lat * cos_lat * b * b;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t bit = (uint64_t)1 << (at[i] & 63);
        if (chord[i] < circle->limit - circle->margin)
            out[at[i] >> 6] |= bit;
        else if (chord[i] <= circle->limit + circle->margin)
            unsure[at[i] >> 6] |= bit;
    }
}

TARGET MK_INLINE uint64_t in_box(const int32_t *lat, const int32_t *lon, const mk_circle *c) {
    uint64_t bits = word_i32(lat, c->south, c->north);
    if (!bits) return 0;
    uint64_t between = word_i32(lon, c->west[0], c->east[0]);
    if (c->west[1] <= c->east[1]) between |= word_i32(lon, c->west[1], c->east[1]);
    return bits & between;
}

TARGET static void near(const int32_t *lat, const int32_t *lon, size_t n, const mk_circle *circle,
                        const uint64_t *where, uint64_t *out, uint64_t *unsure) {
    size_t at[PENDING], count = 0;
    memset(out, 0, MK_WORDS(n) * sizeof *out);
    memset(unsure, 0, MK_WORDS(n) * sizeof *unsure);
    for (size_t row = 0; row < n; row += 64) {
        int32_t last_lat[64], last_lon[64];
        const int32_t *lats = lat + row, *lons = lon + row;
        if (where && !where[row / 64]) continue;
        if (n - row < 64) {
            lats = memcpy(last_lat, lats, (n - row) * sizeof *lats);
            lons = memcpy(last_lon, lons, (n - row) * sizeof *lons);
        }
        uint64_t bits = in_box(lats, lons, circle) & low_bits(n - row);
        if (where) bits &= where[row / 64];
        if (count + 64 > PENDING) {
            decide(lat, lon, at, count, circle, out, unsure);
            count = 0;
        }
        for (; bits; bits &= bits - 1) at[count++] = row + (size_t)__builtin_ctzll(bits);
    }
    decide(lat, lon, at, count, circle, out, unsure);
}

#define MK_LOOPS                                                                                        \
    .runs_here = runs_here, .within_f64 = within_f64, .within_i64 = within_i64, .member_u8 = member_u8, \
    .member_u16 = member_u16, .member_u32 = member_u32, .near = near
