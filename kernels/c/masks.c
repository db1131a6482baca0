#include "masks.h"

/* Few rows of a column: their values are far apart, and no branch waits for one, so that the misses overlap. */
#define WHERE(test)                                              \
    for (size_t word = 0; word < MK_WORDS(n); word++) {          \
        uint64_t met = 0;                                        \
        for (uint64_t bits = where[word]; bits; bits &= bits - 1) { \
            int bit = __builtin_ctzll(bits);                     \
            size_t row = word * 64 + (size_t)bit;                \
            met |= (uint64_t)(test) << bit;                      \
        }                                                        \
        out[word] |= met;                                        \
    }

void mk_within_f64_where(const double *values, size_t n, double lo, double hi, const uint64_t *where, uint64_t *out) {
    WHERE((values[row] >= lo) & (values[row] <= hi));
}

void mk_within_i64_where(const int64_t *values, size_t n, int64_t lo, int64_t hi, const uint64_t *where,
                         uint64_t *out) {
    WHERE((values[row] >= lo) & (values[row] <= hi));
}

void mk_mark_below(const uint32_t *parents, size_t n, uint8_t *marks) {
    for (size_t node = 0; node < n; node++) marks[node] |= marks[parents[node]];
}

void mk_hash_texts(const uint8_t *data, const int64_t *starts, const int64_t *lengths, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        uint64_t hash = 0xCBF29CE484222325u;
        for (int64_t at = starts[i]; at < starts[i] + lengths[i]; at++) hash = (hash ^ data[at]) * 0x100000001B3u;
        hash ^= hash >> 32;
        out[i] = (uint8_t)(hash * 0x9E3779B97F4A7C15u >> 56); /* 2^64 by the golden ratio: the top byte mixes all */
    }
}

const mk_variant *const mk_variants[] = {
    &mk_portable,
#if defined(__x86_64__)
    &mk_avx2, &mk_avx512,
#endif
    NULL,
};
