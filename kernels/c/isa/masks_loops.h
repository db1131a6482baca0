/* The loops over all rows. The including file defines TARGET, the attribute of its functions, and for 64 rows at once:
 *   word_f64(values, lo, hi), word_i64(...), word_i32(...)   those within bounds
 *   word_set8(numbers, mk_set8 *)                            those in a set of bytes
 *   word_any16(numbers, wanted, count), word_any32(...)      those equal to one of a few numbers */
#include <math.h>
#include <string.h>

#define PENDING 256 /* rows of a box whose distance is computed together */

MK_INLINE uint64_t low_bits(size_t n) { return n < 64 ? ((uint64_t)1 << n) - 1 : ~(uint64_t)0; }

/* out[i] = word for each 64 rows, where `v` points at them; the last rows are copied to whole 64. */
#define EACH_WORD(type, values, n, word) \
    size_t whole = (n) / 64, rest = (n) % 64; \
    const type *v = (values); \
    for (size_t i = 0; i < whole; i++, v += 64) out[i] = (word); \
    if (rest) { \
        type last[64] = {0}; \
        v = memcpy(last, v, rest * sizeof(type)); \
        out[whole] = (word) & low_bits(rest); \
    }

TARGET static void within_f64(const double *values, size_t n, double lo, double hi, uint64_t *out) {
    EACH_WORD(double, values, n, word_f64(v, lo, hi));
}

TARGET static void within_i64(const int64_t *values, size_t n, int64_t lo, int64_t hi, uint64_t *out) {
    EACH_WORD(int64_t, values, n, word_i64(v, lo, hi));
}

TARGET static void member_u8(const uint8_t *numbers, size_t n, mk_set wanted, uint64_t *out) {
    mk_set8 set = {{0}, {0}, {0}};
    for (uint32_t i = 0; i < wanted.size; i++) {
        if (!wanted.table[i]) continue;
        set.table[i] = 1;
        (i < 128 ? set.low : set.high)[i & 15] |= (uint8_t)(1 << (i >> 4 & 7));
    }
    EACH_WORD(uint8_t, numbers, n, word_set8(v, &set));
}

TARGET MK_INLINE uint64_t look_up16(const uint16_t *v, const uint8_t *table) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) bits |= (uint64_t)table[v[i]] << i;
    return bits;
}

TARGET MK_INLINE uint64_t look_up32(const uint32_t *v, const uint8_t *table, uint32_t last) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) bits |= (uint64_t)table[v[i] < last ? v[i] : last] << i;
    return bits;
}

TARGET static void member_u16(const uint16_t *numbers, size_t n, mk_set set, uint64_t *out) {
    if (set.wanted) {
        EACH_WORD(uint16_t, numbers, n, word_any16(v, set.wanted, set.count));
    } else {
        EACH_WORD(uint16_t, numbers, n, look_up16(v, set.table));
    }
}

TARGET static void member_u32(const uint32_t *numbers, size_t n, mk_set set, uint64_t *out) {
    if (set.wanted) {
        EACH_WORD(uint32_t, numbers, n, word_any32(v, set.wanted, set.count));
    } else {
        EACH_WORD(uint32_t, numbers, n, look_up32(v, set.table, set.size - 1));
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

TARGET MK_INLINE double half_chord(double lat, double lon, const mk_circle *circle) {
    double a = short_sine(half_angle(lat - circle->lat)), b = short_sine(half_angle(lon - circle->lon));
    double cos_lat = short_sine((9e8 - fabs(lat)) * (M_PI / 180 / 1e7));
    return a * a + circle->cos_lat * cos_lat * b * b;
}

/* The margin, which is far above the error of the series and of rounding, keeps rows close to the limit for an exact
 * formula. Many rows of a word are decided together with the others of it, few are gathered first; no branch depends
 * on a row, since half of them would be mispredicted. */
#define MANY 16

TARGET static void decide_word(const int32_t *lat, const int32_t *lon, uint64_t bits, const mk_circle *circle,
                               uint64_t *out, uint64_t *unsure) {
    double chord[64];
    for (int i = 0; i < 64; i++) chord[i] = half_chord(lat[i], lon[i], circle);
    uint64_t met = word_f64(chord, -1, circle->limit - circle->margin);
    *out |= bits & met;
    *unsure = bits & ~met & word_f64(chord, -1, circle->limit + circle->margin);
}

TARGET static void decide_rows(const int32_t *lat, const int32_t *lon, const size_t *at, size_t count,
                               const mk_circle *circle, uint64_t *out, uint64_t *unsure) {
    double lats[PENDING], lons[PENDING], chord[PENDING];
    for (size_t i = 0; i < count; i++) lats[i] = lat[at[i]], lons[i] = lon[at[i]];
    for (size_t i = 0; i < count; i++) chord[i] = half_chord(lats[i], lons[i], circle);
    for (size_t i = 0; i < count; i++) {
        uint64_t met = chord[i] <= circle->limit - circle->margin, close = chord[i] <= circle->limit + circle->margin;
        out[at[i] >> 6] |= met << (at[i] & 63);
        unsure[at[i] >> 6] |= (close & ~met) << (at[i] & 63);
    }
}

TARGET MK_INLINE uint64_t in_box(const int32_t *lat, const int32_t *lon, const mk_box *box) {
    uint64_t bits = word_i32(lat, box->south, box->north);
    if (!bits) return 0;
    uint64_t between = word_i32(lon, box->west[0], box->east[0]);
    if (box->west[1] <= box->east[1]) between |= word_i32(lon, box->west[1], box->east[1]);
    return bits & between;
}

TARGET static void near(const int32_t *lat, const int32_t *lon, size_t n, const mk_circle *circle, uint64_t *out,
                        uint64_t *unsure) {
    size_t at[PENDING], count = 0;
    memset(out, 0, MK_WORDS(n) * sizeof *out);
    memset(unsure, 0, MK_WORDS(n) * sizeof *unsure);
    for (size_t row = 0; row < n; row += 64) {
        int32_t last_lat[64], last_lon[64];
        const int32_t *lats = lat + row, *lons = lon + row;
        if (n - row < 64) {
            lats = memcpy(memset(last_lat, 0, sizeof last_lat), lats, (n - row) * sizeof *lats);
            lons = memcpy(memset(last_lon, 0, sizeof last_lon), lons, (n - row) * sizeof *lons);
        }
        uint64_t bits = in_box(lats, lons, &circle->outer) & low_bits(n - row);
        if (!bits) continue;
        out[row / 64] = bits & in_box(lats, lons, &circle->inner);
        bits ^= out[row / 64];
        if (__builtin_popcountll(bits) >= MANY) {
            decide_word(lats, lons, bits, circle, &out[row / 64], &unsure[row / 64]);
            continue;
        }
        if (count + MANY > PENDING) {
            decide_rows(lat, lon, at, count, circle, out, unsure);
            count = 0;
        }
        for (; bits; bits &= bits - 1) at[count++] = row + (size_t)__builtin_ctzll(bits);
    }
    decide_rows(lat, lon, at, count, circle, out, unsure);
}

#define MK_LOOPS \
    .runs_here = runs_here, .within_f64 = within_f64, .within_i64 = within_i64, .member_u8 = member_u8, \
    .member_u16 = member_u16, .member_u32 = member_u32, .near = near
