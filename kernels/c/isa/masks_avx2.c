/* AVX2: comparisons leave all ones in a lane, whose sign bits a move collects. */
#if defined(__x86_64__)
#include "masks.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,bmi,popcnt")))

TARGET MK_INLINE __m256i load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }

TARGET MK_INLINE uint64_t word_f64(const double *v, double lo, double hi) {
    const __m256d low = _mm256_set1_pd(lo), high = _mm256_set1_pd(hi);
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 4) {
        __m256d x = _mm256_loadu_pd(v + i);
        __m256d met = _mm256_and_pd(_mm256_cmp_pd(x, low, _CMP_GE_OQ), _mm256_cmp_pd(x, high, _CMP_LE_OQ));
        bits |= (uint64_t)(unsigned)_mm256_movemask_pd(met) << i;
    }
    return bits;
}

TARGET MK_INLINE uint64_t word_i64(const int64_t *v, int64_t lo, int64_t hi) {
    const __m256i low = _mm256_set1_epi64x(lo), high = _mm256_set1_epi64x(hi);
    uint64_t outside = 0;
    for (int i = 0; i < 64; i += 4) {
        __m256i x = load(v + i);
        __m256i out = _mm256_or_si256(_mm256_cmpgt_epi64(low, x), _mm256_cmpgt_epi64(x, high));
        outside |= (uint64_t)(unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(out)) << i;
    }
    return ~outside;
}

TARGET MK_INLINE uint64_t word_i32(const int32_t *v, int32_t lo, int32_t hi) {
    const __m256i low = _mm256_set1_epi32(lo), high = _mm256_set1_epi32(hi);
    uint64_t outside = 0;
    for (int i = 0; i < 64; i += 8) {
        __m256i x = load(v + i);
        __m256i out = _mm256_or_si256(_mm256_cmpgt_epi32(low, x), _mm256_cmpgt_epi32(x, high));
        outside |= (uint64_t)(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(out)) << i;
    }
    return ~outside;
}

TARGET MK_INLINE uint64_t word_set8(const uint8_t *v, const mk_set8 *set) {
    const __m256i low = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)set->low));
    const __m256i high = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)set->high));
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201u), digit = _mm256_set1_epi8(15);
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 32) {
        __m256i x = load(v + i), below = _mm256_and_si256(x, digit);
        __m256i above = _mm256_and_si256(_mm256_srli_epi16(x, 4), digit);
        /* the sign bit of x says whether its high digit is 8 or more */
        __m256i row = _mm256_blendv_epi8(_mm256_shuffle_epi8(low, below), _mm256_shuffle_epi8(high, below), x);
        __m256i none =
            _mm256_cmpeq_epi8(_mm256_and_si256(row, _mm256_shuffle_epi8(bit, above)), _mm256_setzero_si256());
        bits |= (uint64_t)(uint32_t)~_mm256_movemask_epi8(none) << i;
    }
    return bits;
}

TARGET MK_INLINE uint64_t word_any16(const uint16_t *v, const uint32_t *wanted, int count) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 32) {
        __m256i a = load(v + i), b = load(v + i + 16), met_a = _mm256_setzero_si256(), met_b = met_a;
        for (int k = 0; k < count; k++) {
            __m256i number = _mm256_set1_epi16((short)wanted[k]);
            met_a = _mm256_or_si256(met_a, _mm256_cmpeq_epi16(a, number));
            met_b = _mm256_or_si256(met_b, _mm256_cmpeq_epi16(b, number));
        }
        __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(met_a, met_b), _MM_SHUFFLE(3, 1, 2, 0));
        bits |= (uint64_t)(uint32_t)_mm256_movemask_epi8(bytes) << i;
    }
    return bits;
}

TARGET MK_INLINE uint64_t word_any32(const uint32_t *v, const uint32_t *wanted, int count) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 8) {
        __m256i x = load(v + i), met = _mm256_setzero_si256();
        for (int k = 0; k < count; k++)
            met = _mm256_or_si256(met, _mm256_cmpeq_epi32(x, _mm256_set1_epi32((int)wanted[k])));
        bits |= (uint64_t)(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(met)) << i;
    }
    return bits;
}

#include "masks_loops.h"

static int runs_here(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("popcnt");
}

const mk_variant mk_avx2 = {.name = "avx2", MK_LOOPS};
#endif
