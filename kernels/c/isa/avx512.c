/* AVX-512 with VPOPCNTDQ (Intel since Ice Lake, AMD since Zen 4): eight rows at once, one distance per 64-bit lane. */
#if defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,popcnt")))
#include "bit_planes.h"

TARGET HM_INLINE plane full_adder(plane a, plane b, plane c, plane *carry) {
    __m512i x = (__m512i)a, y = (__m512i)b, z = (__m512i)c;
    *carry = (plane)_mm512_ternarylogic_epi64(x, y, z, 0xe8); /* majority */
    return (plane)_mm512_ternarylogic_epi64(x, y, z, 0x96);   /* parity */
}

TARGET HM_INLINE plane borrow(plane a, plane b, plane c) {
    return (plane)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x8e);
}

TARGET HM_INLINE unsigned lanes_with_bits(plane p) { return _mm512_test_epi64_mask((__m512i)p, (__m512i)p); }

TARGET HM_INLINE __m512i load(const uint64_t *p) { return _mm512_loadu_si512((const void *)p); }

TARGET HM_INLINE __m512i bits_that_differ(const uint64_t *row, __m512i query) {
    return _mm512_popcnt_epi64(_mm512_xor_si512(load(row), query));
}

/* Sum neighbouring lanes of a and b: lanes 0..3 from a, 4..7 from b, in order. */
TARGET HM_INLINE __m512i add_pairs(__m512i a, __m512i b) {
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
    const __m512i odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    return _mm512_add_epi64(_mm512_permutex2var_epi64(a, even, b), _mm512_permutex2var_epi64(a, odd, b));
}

/* The query, repeated to fill a register; words is 1, 2 or 4. */
TARGET HM_INLINE __m512i repeat_query(const uint64_t *query, int words) {
    if (words == 1) return _mm512_set1_epi64((long long)query[0]);
    if (words == 2) return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)query));
    return _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)query));
}

/* The distances of eight rows. */
TARGET HM_INLINE __m512i eight_distances(const uint64_t *rows, __m512i query, int words) {
    if (words == 1) return bits_that_differ(rows, query);
    __m512i low = bits_that_differ(rows, query), high = bits_that_differ(rows + 8, query);
    if (words == 2) return add_pairs(low, high);
    __m512i low4 = bits_that_differ(rows + 16, query), high4 = bits_that_differ(rows + 24, query);
    return add_pairs(add_pairs(low, high), add_pairs(low4, high4));
}

TARGET HM_INLINE void vector_distances(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                       uint16_t *out) {
    const __m512i repeated = repeat_query(query, words);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m512i distance = eight_distances(rows + i * (size_t)words, repeated, words);
        _mm_storeu_si128((__m128i *)(out + i), _mm512_cvtepi64_epi16(distance));
    }
    scalar_distances(query, rows + i * (size_t)words, n - i, words, out + i);
}

TARGET static void distances(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out) {
    switch (words) {
        case 1: vector_distances(query, rows, n, 1, out); break;
        case 2: vector_distances(query, rows, n, 2, out); break;
        case 4: vector_distances(query, rows, n, 4, out); break;
        default: scalar_distances(query, rows, n, words, out);
    }
}

TARGET HM_INLINE size_t vector_within(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                      const uint64_t *allowed, int threshold, uint64_t first, uint64_t *out) {
    const __m512i repeated = repeat_query(query, words), limit = _mm512_set1_epi64(threshold);
    const __m512i lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const uint8_t *allowed_eight = (const uint8_t *)allowed; /* x86 is little-endian: byte i is rows 8i to 8i + 7 */
    size_t found = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        __m512i distance = eight_distances(rows + i * (size_t)words, repeated, words);
        __mmask8 mask = _mm512_cmple_epu64_mask(distance, limit);
        if (allowed) mask &= allowed_eight[i >> 3];
        if (!mask) continue;
        __m512i row = _mm512_add_epi64(_mm512_set1_epi64((long long)(first + i)), lanes);
        __m512i hits = _mm512_or_si512(_mm512_slli_epi64(distance, HM_ROW_BITS), row);
        /* compressing into memory is microcoded on Zen 4: compress in a register, store it whole */
        _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi64(mask, hits));
        found += (size_t)__builtin_popcount(mask);
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

/* The distance of eight words, or of those that `lanes` names, lane by lane. */
TARGET HM_INLINE __m512i eight_words(const uint64_t *query, const uint64_t *row, __mmask8 lanes,
                                     const uint64_t *weights) {
    __m512i x = _mm512_xor_si512(_mm512_maskz_loadu_epi64(lanes, query), _mm512_maskz_loadu_epi64(lanes, row));
    __m512i counts = _mm512_popcnt_epi64(x);
    return weights ? _mm512_mul_epu32(counts, _mm512_maskz_loadu_epi64(lanes, weights)) : counts;
}

/* A distance as eight summands. */
TARGET HM_INLINE __m512i sum_words(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
    __m512i sum = _mm512_setzero_si512();
    int w = 0;
    for (; w + 8 <= words; w += 8)
        sum = _mm512_add_epi64(sum, eight_words(query + w, row + w, 0xff, weights ? weights + w : NULL));
    if (w == words) return sum;
    __mmask8 lanes = (__mmask8)((1u << (words - w)) - 1);
    return _mm512_add_epi64(sum, eight_words(query + w, row + w, lanes, weights ? weights + w : NULL));
}

TARGET static uint64_t weighted(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
    return (uint64_t)_mm512_reduce_add_epi64(sum_words(query, row, words, weights));
}

TARGET HM_INLINE __m512i four_sums(const uint64_t *query, const uint64_t *rows, int words, const uint64_t *weights) {
    size_t row = (size_t)words;
    return add_pairs(
        add_pairs(sum_words(query, rows, words, weights), sum_words(query, rows + row, words, weights)),
        add_pairs(sum_words(query, rows + 2 * row, words, weights), sum_words(query, rows + 3 * row, words, weights)));
}

/* The distances of eight rows. */
TARGET HM_INLINE __m512i eight_weighted(const uint64_t *query, const uint64_t *rows, int words,
                                        const uint64_t *weights) {
    return add_pairs(four_sums(query, rows, words, weights),
                     four_sums(query, rows + 4 * (size_t)words, words, weights));
}

/* Eight rows at a time share the last additions, which for one row are a third of the work. */
TARGET static uint64_t weighted_within(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                       const uint64_t *weights, uint64_t limit, uint64_t *out) {
    uint64_t within_limit = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint64_t *eight = rows + i * (size_t)words;
        __m512i distances = weights       ? eight_weighted(query, eight, words, weights)
                            : words == 32 ? eight_weighted(query, eight, 32, NULL) /* 2,048 bits: half the time */
                                          : eight_weighted(query, eight, words, NULL);
        within_limit |= (uint64_t)_mm512_cmple_epu64_mask(distances, _mm512_set1_epi64((long long)limit)) << i;
        _mm512_storeu_si512(out + i, distances);
    }
    for (; i < n; i++) {
        out[i] = weighted(query, rows + i * (size_t)words, words, weights);
        within_limit |= (uint64_t)(out[i] <= limit) << i;
    }
    return within_limit;
}

TARGET static uint64_t population(const uint64_t *words, size_t n) {
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    size_t i = 0;
    for (; i + 32 <= n; i += 32)
        for (size_t j = 0; j < 4; j++)
            sums[j] = _mm512_add_epi64(sums[j], _mm512_popcnt_epi64(load(words + i + 8 * j)));
    __m512i sum = _mm512_add_epi64(_mm512_add_epi64(sums[0], sums[1]), _mm512_add_epi64(sums[2], sums[3]));
    return (uint64_t)_mm512_reduce_add_epi64(sum) + scalar_population(words + i, n - i);
}

static int runs_here(void) {
    return __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

const hm_variant hm_avx512 = {
    .name = "avx512",
    .runs_here = runs_here,
    .distances = distances,
    .within = within,
    .weighted = weighted,
    .weighted_within = weighted_within,
    .population = population,
    .lanes = LANES,
    .min_plane_queries = 8,
    .to_bit_planes = to_bit_planes,
    .triple_masks = triple_masks,
    .mask_hits = mask_hits,
};
#endif
