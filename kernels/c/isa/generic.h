/* A whole variant in plain C: the including file defines TARGET, the attribute of its functions. */
#define LANES 2
#include "bit_planes.h"

TARGET HM_INLINE plane full_adder(plane a, plane b, plane c, plane *carry) {
    plane differ = a ^ b;
    *carry = (a & b) | (differ & c);
    return differ ^ c;
}

TARGET HM_INLINE plane borrow(plane a, plane b, plane c) { return (b & c) | (~a & (b | c)); }

TARGET HM_INLINE unsigned lanes_with_bits(plane p) { return (unsigned)(p[0] != 0) | (unsigned)(p[1] != 0) << 1; }

TARGET static void distances(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out) {
    scalar_distances(query, rows, n, words, out);
}

/* The width of the usual codes is known to the compiler in each case: that is a third of the time. */
TARGET static size_t within(const uint64_t *query, const uint64_t *rows, size_t n, int words, const uint64_t *allowed,
                            int threshold, uint64_t first, uint64_t *out) {
    switch (words) {
        case 1: return scalar_within(query, rows, 0, n, 1, allowed, threshold, first, out);
        case 2: return scalar_within(query, rows, 0, n, 2, allowed, threshold, first, out);
        case 3: return scalar_within(query, rows, 0, n, 3, allowed, threshold, first, out);
        default: return scalar_within(query, rows, 0, n, 4, allowed, threshold, first, out);
    }
}

TARGET static uint64_t weighted(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
    return scalar_weighted(query, row, words, weights);
}

TARGET static uint64_t weighted_within(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                       const uint64_t *weights, uint64_t limit, uint64_t *out) {
    return each_weighted_within(weighted, query, rows, n, words, weights, limit, out);
}

TARGET static uint64_t population(const uint64_t *words, size_t n) { return scalar_population(words, n); }
