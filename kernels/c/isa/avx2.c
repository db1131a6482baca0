/* AVX2: bits are counted in bytes with a table of 16 in a register (W. Mula's method). */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 4
#define TARGET __attribute__((target("avx2,popcnt")))
#include "bit_planes.h"

TARGET HM_INLINE plane full_adder(plane a, plane b, plane c, plane *carry) {
    plane differ = a ^ b;
    *carry = (a & b) | (differ & c);
    return differ ^ c;
}

TARGET HM_INLINE plane borrow(plane a, plane b, plane c) { return (b & c) | (~a & (b | c)); }

TARGET HM_INLINE unsigned lanes_with_bits(plane p) {
    __m256i empty = _mm256_cmpeq_epi64((__m256i)p, _mm256_setzero_si256());
    return 15 & ~(unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(empty));
}

TARGET HM_INLINE __m256i load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }

/* The bits that differ in each 64-bit lane. */
TARGET HM_INLINE __m256i bits_that_differ(__m256i a, __m256i b) {
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, //
                                            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i x = _mm256_xor_si256(a, b);
    __m256i bytes = _mm256_add_epi8(_mm256_shuffle_epi8(counts, _mm256_and_si256(x, low)),
                                    _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
    return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
}

/* Lanes a0 + a1, b0 + b1, a2 + a3, b2 + b3. */
TARGET HM_INLINE __m256i add_pairs(__m256i a, __m256i b) {
    return _mm256_add_epi64(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* The query, repeated to fill a register; words is 1, 2 or 4. */
TARGET HM_INLINE __m256i repeat_query(const uint64_t *query, int words) {
    if (words == 1) return _mm256_set1_epi64x((long long)query[0]);
    if (words == 2) return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)query));
    return load(query);
}

/* The distances of four rows, in order. */
TARGET HM_INLINE __m256i four_distances(const uint64_t *rows, __m256i query, int words) {
    __m256i a = bits_that_differ(load(rows), query);
    if (words == 1) return a;
    __m256i b = bits_that_differ(load(rows + 4), query);
    if (words == 2) return _mm256_permute4x64_epi64(add_pairs(a, b), _MM_SHUFFLE(3, 1, 2, 0));
    __m256i c = bits_that_differ(load(rows + 8), query), d = bits_that_differ(load(rows + 12), query);
    __m256i ab = add_pairs(a, b), cd = add_pairs(c, d);
    return _mm256_add_epi64(_mm256_permute2x128_si256(ab, cd, 0x20), _mm256_permute2x128_si256(ab, cd, 0x31));
}

TARGET static void distances(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out) {
    scalar_distances(query, rows, n, words, out);
}

TARGET HM_INLINE size_t vector_within(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                      const uint64_t *allowed, int threshold, uint64_t first, uint64_t *out) {
    const __m256i repeated = repeat_query(query, words), limit = _mm256_set1_epi64x(threshold + 1);
    size_t found = 0, i = 0;
    for (; i + 4 <= n; i += 4) {
        __m256i distance = four_distances(rows + i * (size_t)words, repeated, words);
        unsigned mask = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(limit, distance)));
        if (allowed) mask &= (unsigned)(allowed[i >> 6] >> (i & 63)) & 15;
        if (!mask) continue;
        uint64_t lanes[4];
        _mm256_storeu_si256((__m256i *)lanes, distance);
        for (; mask; mask &= mask - 1) {
            size_t lane = (size_t)__builtin_ctz(mask);
            out[found++] = hm_hit(lanes[lane], first + i + lane);
        }
    }
    return found + scalar_within(query, rows, i, n, words, allowed, threshold, first, out + found);
}

TARGET static size_t within(const uint64_t *query, const uint64_t *rows, size_t n, int words, const uint64_t *allowed,
                            int threshold, uint64_t first, uint64_t *out) {
    switch (words) {
        case 1: return vector_within(query, rows, n, 1, allowed, threshold, first, out);
        case 2: return vector_within(query, rows, n, 2, allowed, threshold, first, out);
        case 4: return vector_within(query, rows, n, 4, allowed, threshold, first, out);
        default: return scalar_within(query, rows, 0, n, 3, allowed, threshold, first, out);
    }
}

TARGET static uint64_t weighted(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
    __m256i sum = _mm256_setzero_si256();
    int w = 0;
    for (; w + 4 <= words; w += 4) {
        __m256i counts = bits_that_differ(load(query + w), load(row + w));
        if (weights) counts = _mm256_mul_epu32(counts, load(weights + w));
        sum = _mm256_add_epi64(sum, counts);
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *)lanes, sum);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3] +
           scalar_weighted(query + w, row + w, words - w, weights ? weights + w : NULL);
}

TARGET static uint64_t weighted_within(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                       const uint64_t *weights, uint64_t limit, uint64_t *out) {
    return each_weighted_within(weighted, query, rows, n, words, weights, limit, out);
}

TARGET static uint64_t population(const uint64_t *words, size_t n) { return scalar_population(words, n); }

static int runs_here(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }

const hm_variant hm_avx2 = {
    .name = "avx2",
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
