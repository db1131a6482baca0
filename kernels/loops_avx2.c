/* AVX2: bits are counted in bytes with a table of 16 in a register (W. Mula's method). */
#include "loops_scalar.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,popcnt")))

/* The bits set in each 64-bit lane. */
AVX2 static inline __m256i popcount_lanes(__m256i x) {
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i bytes = _mm256_add_epi8(_mm256_shuffle_epi8(counts, _mm256_and_si256(x, low)),
                                    _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
    return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
}

AVX2 static inline uint64_t sum_lanes(__m256i x) {
    __m128i half = _mm_add_epi64(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return (uint64_t)_mm_cvtsi128_si64(half) + (uint64_t)_mm_extract_epi64(half, 1);
}

AVX2 static void avx2_distances(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out) {
    scalar_distances(query, rows, n, words, out);
}

/* POPCNT keeps up with memory for one query, so the scan of short rows stays scalar. */
AVX2 static size_t avx2_within(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                               const uint64_t *allowed, int threshold, uint64_t first, uint64_t *out) {
    switch (words) {
        case 1: return scalar_within(query, rows, 0, n, 1, allowed, threshold, first, out);
        case 2: return scalar_within(query, rows, 0, n, 2, allowed, threshold, first, out);
        case 3: return scalar_within(query, rows, 0, n, 3, allowed, threshold, first, out);
        default: return scalar_within(query, rows, 0, n, 4, allowed, threshold, first, out);
    }
}

AVX2 static uint64_t avx2_weighted(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights) {
    __m256i sum = _mm256_setzero_si256();
    int w = 0;
    for (; w + 4 <= words; w += 4) {
        __m256i x = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(query + w)),
                                     _mm256_loadu_si256((const __m256i *)(row + w)));
        __m256i counts = popcount_lanes(x);
        if (weights) counts = _mm256_mul_epu32(counts, _mm256_loadu_si256((const __m256i *)(weights + w)));
        sum = _mm256_add_epi64(sum, counts);
    }
    return sum_lanes(sum) + scalar_weighted(query + w, row + w, words - w, weights ? weights + w : NULL);
}

static int avx2_runs_here(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"); }

const hm_loops hm_avx2 = {"avx2", avx2_runs_here, avx2_distances, avx2_within, avx2_weighted};
#endif
