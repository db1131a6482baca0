/* The loops in plain C, to be inlined into functions of any instruction set: the compiler turns __builtin_popcountll
 * into bit tricks or into the instruction. Vector loops leave their last few rows to these. */
#ifndef LOOKALIKE_SCALAR_H
#define LOOKALIKE_SCALAR_H

#include "hamming.h"

#define HM_INLINE static inline __attribute__((always_inline))

HM_INLINE uint64_t scalar_distance(const uint64_t *query, const uint64_t *row, int words) {
    uint64_t sum = 0;
    for (int w = 0; w < words; w++) sum += (uint64_t)__builtin_popcountll(query[w] ^ row[w]);
    return sum;
}

HM_INLINE void scalar_distances(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out) {
    for (size_t i = 0; i < n; i++) out[i] = (uint16_t)scalar_distance(query, rows + i * (size_t)words, words);
}

HM_INLINE int is_allowed(const uint64_t *allowed, size_t row) {
    return !allowed || (int)(allowed[row >> 6] >> (row & 63) & 1);
}

/* Rows from `start` on, so that a vector loop can leave its tail here. Near and allowed is one
 * branch, seldom taken: two branches would be mispredicted far more often. */
HM_INLINE size_t scalar_within(const uint64_t *query, const uint64_t *rows, size_t start, size_t n, int words,
                               const uint64_t *allowed, int threshold, uint64_t first, uint64_t *out) {
    size_t found = 0;
    for (size_t i = start; i < n; i++) {
        uint64_t distance = scalar_distance(query, rows + i * (size_t)words, words);
        if ((distance <= (uint64_t)threshold) & is_allowed(allowed, i)) out[found++] = hm_hit(distance, first + i);
    }
    return found;
}

HM_INLINE uint64_t scalar_weighted(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
    if (!weights) return scalar_distance(query, row, words);
    uint64_t sum = 0;
    for (int w = 0; w < words; w++) sum += weights[w] * (uint64_t)__builtin_popcountll(query[w] ^ row[w]);
    return sum;
}

/* `weighted_within` where one row at a time is fastest: `weighted` is known to the compiler and inlined. */
HM_INLINE uint64_t each_weighted_within(uint64_t (*weighted)(const uint64_t *, const uint64_t *, int, const uint64_t *),
                                        const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                        const uint64_t *weights, uint64_t limit, uint64_t *out) {
    uint64_t within_limit = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = weighted(query, rows + i * (size_t)words, words, weights);
        within_limit |= (uint64_t)(out[i] <= limit) << i;
    }
    return within_limit;
}

HM_INLINE uint64_t scalar_population(const uint64_t *words, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (uint64_t)__builtin_popcountll(words[i]);
    return sum;
}

#endif
