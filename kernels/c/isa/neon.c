/* NEON (every AArch64): bits are counted in bytes by CNT and added up pairwise. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define LANES 2
#define TARGET
#include "bit_planes.h"

HM_INLINE plane full_adder(plane a, plane b, plane c, plane *carry) {
    plane differ = a ^ b;
    *carry = (plane)vbslq_u64((uint64x2_t)differ, (uint64x2_t)c, (uint64x2_t)a);
    return differ ^ c;
}

HM_INLINE plane borrow(plane a, plane b, plane c) { return (b & c) | (~a & (b | c)); }

HM_INLINE unsigned lanes_with_bits(plane p) { return (unsigned)(p[0] != 0) | (unsigned)(p[1] != 0) << 1; }

static inline uint64x2_t bits_that_differ(const uint64_t *a, const uint64_t *b) {
    uint8x16_t x = vreinterpretq_u8_u64(veorq_u64(vld1q_u64(a), vld1q_u64(b)));
    return vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(vcntq_u8(x))));
}

static uint64_t weighted(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
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

static uint64_t weighted_within(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                const uint64_t *weights, uint64_t limit, uint64_t *out) {
    return each_weighted_within(weighted, query, rows, n, words, weights, limit, out);
}

static inline uint64_t short_distance(const uint64_t *query, const uint64_t *row, int words) {
    return weighted(query, row, words, NULL);
}

static void distances(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out) {
    for (size_t i = 0; i < n; i++) out[i] = (uint16_t)short_distance(query, rows + i * (size_t)words, words);
}

static size_t within(const uint64_t *query, const uint64_t *rows, size_t n, int words, const uint64_t *allowed,
                     int threshold, uint64_t first, uint64_t *out) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t distance = short_distance(query, rows + i * (size_t)words, words);
        if ((distance <= (uint64_t)threshold) & is_allowed(allowed, i)) out[found++] = hm_hit(distance, first + i);
    }
    return found;
}

static uint64_t population(const uint64_t *words, size_t n) { return scalar_population(words, n); }

static int runs_here(void) { return 1; }

const hm_variant hm_neon = {
    .name = "neon",
    .runs_here = runs_here,
    .distances = distances,
    .within = within,
    .weighted = weighted,
    .weighted_within = weighted_within,
    .population = population,
    .lanes = LANES,
    .min_plane_queries = 5,
    .to_bit_planes = to_bit_planes,
    .triple_masks = triple_masks,
    .mask_hits = mask_hits,
};
#endif
