/* AVX-512: a comparison leaves one bit per lane, which is what is wanted. */
#if defined(__x86_64__)
#include "masks.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,bmi,popcnt")))

TARGET MK_INLINE __m512i load(const void *p) { return _mm512_loadu_si512(p); }

TARGET MK_INLINE uint64_t word_f64(const double *v, double lo, double hi) {
    const __m512d low = _mm512_set1_pd(lo), high = _mm512_set1_pd(hi);
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 8) {
        __m512d x = _mm512_loadu_pd(v + i);
        __mmask8 met = _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(x, low, _CMP_GE_OQ), x, high, _CMP_LE_OQ);
        bits |= (uint64_t)met << i;
    }
    return bits;
}

TARGET MK_INLINE uint64_t word_i64(const int64_t *v, int64_t lo, int64_t hi) {
    const __m512i low = _mm512_set1_epi64(lo), high = _mm512_set1_epi64(hi);
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 8) {
        __m512i x = load(v + i);
        bits |= (uint64_t)_mm512_mask_cmple_epi64_mask(_mm512_cmpge_epi64_mask(x, low), x, high) << i;
    }
    return bits;
}

TARGET MK_INLINE uint64_t word_i32(const int32_t *v, int32_t lo, int32_t hi) {
    const __m512i low = _mm512_set1_epi32(lo), high = _mm512_set1_epi32(hi);
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 16) {
        __m512i x = load(v + i);
        bits |= (uint64_t)_mm512_mask_cmple_epi32_mask(_mm512_cmpge_epi32_mask(x, low), x, high) << i;
    }
    return bits;
}

TARGET MK_INLINE uint64_t word_set8(const uint8_t *v, const mk_set8 *set) {
    const __m512i low = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)set->low));
    const __m512i high = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)set->high));
    const __m512i bit = _mm512_set1_epi64((long long)0x8040201008040201u), digit = _mm512_set1_epi8(15);
    __m512i x = load(v), below = _mm512_and_si512(x, digit);
    __m512i above = _mm512_and_si512(_mm512_srli_epi16(x, 4), digit);
    __m512i row = _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), _mm512_shuffle_epi8(low, below),
                                         _mm512_shuffle_epi8(high, below));
    return _mm512_test_epi8_mask(row, _mm512_shuffle_epi8(bit, above));
}

TARGET MK_INLINE uint64_t word_any16(const uint16_t *v, const uint32_t *wanted, int count) {
    __m512i a = load(v), b = load(v + 32);
    uint64_t first = 0, second = 0;
    for (int k = 0; k < count; k++) {
        __m512i number = _mm512_set1_epi16((short)wanted[k]);
        first |= _mm512_cmpeq_epi16_mask(a, number);
        second |= _mm512_cmpeq_epi16_mask(b, number);
    }
    return first | second << 32;
}

TARGET MK_INLINE uint64_t word_any32(const uint32_t *v, const uint32_t *wanted, int count) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i += 16) {
        __m512i x = load(v + i);
        uint64_t met = 0;
        for (int k = 0; k < count; k++) met |= _mm512_cmpeq_epi32_mask(x, _mm512_set1_epi32((int)wanted[k]));
        bits |= met << i;
    }
    return bits;
}

#include "masks_loops.h"

static int runs_here(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("popcnt");
}

const mk_variant mk_avx512 = {.name = "avx512", MK_LOOPS};
#endif
