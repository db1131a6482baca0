/* NEON (every AArch64): bits are counted in bytes by CNT and added up pairwise. */
#include "loops_scalar.h"

#if defined(__aarch64__)
#include <arm_neon.h>

static inline uint64x2_t bits_that_differ(const uint64_t *a, const uint64_t *b) {
    uint8x16_t x = vreinterpretq_u8_u64(veorq_u64(vld1q_u64(a), vld1q_u64(b)));
    return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(vcntq_u8(x))));
}

static uint64_t neon_weighted(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
    uint64x2_t sum = vdupq_n_u64(0);
    int w = 0;
    for (; w + 2 <= words; w += 2) {
        uint64x2_t counts = bits_that_differ(query + w, row + w);
        if (weights)
            sum = vmlal_u32(sum, vmovn_u64(counts), vmovn_u64(vld1q_u64(weights + w)));
        else
            sum = vaddq_u64(sum, counts);
    }
    return vaddvq_u64(sum) + scalar_weighted(query + w, row + w, words - w, weights ? weights + w : NULL);
}

static inline uint64_t short_distance(const uint64_t *query, const uint64_t *row, int words) {
    return neon_weighted(query, row, words, NULL);
}

static void neon_distances(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out) {
    for (size_t i = 0; i < n; i++) out[i] = (uint16_t)short_distance(query, rows + i * (size_t)words, words);
}

static size_t neon_within(const uint64_t *query, const uint64_t *rows, size_t n, int words, const uint64_t *allowed,
                          int threshold, uint64_t first, uint64_t *out) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        if (!is_allowed(allowed, i)) continue;
        uint64_t distance = short_distance(query, rows + i * (size_t)words, words);
        if (distance <= (uint64_t)threshold) out[found++] = hm_hit(distance, first + i);
    }
    return found;
}

static int neon_runs_here(void) { return 1; }

const hm_loops hm_neon = {"neon", neon_runs_here, neon_distances, neon_within, neon_weighted};
#endif
