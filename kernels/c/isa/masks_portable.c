/* Plain C for any CPU: 64 flags, which the compiler computes in whole registers, then packed to bits. */
#include "masks.h"

#include <string.h>

#define TARGET

/* Byte i of eight, 0 or 1, becomes bit 56 + i of the product; no two of the others meet. */
static inline uint64_t pack_flags(const uint8_t *flags) {
    uint64_t bits = 0, eight;
    for (int i = 0; i < 8; i++) {
        memcpy(&eight, flags + 8 * i, 8);
        bits |= eight * 0x0102040810204080u >> 56 << 8 * i;
    }
    return bits;
}

#define FLAGS(flag) \
    uint8_t flags[64]; \
    for (int i = 0; i < 64; i++) flags[i] = (flag); \
    return pack_flags(flags)

static inline uint64_t word_f64(const double *v, double lo, double hi) { FLAGS((v[i] >= lo) & (v[i] <= hi)); }
static inline uint64_t word_i64(const int64_t *v, int64_t lo, int64_t hi) { FLAGS((v[i] >= lo) & (v[i] <= hi)); }
static inline uint64_t word_i32(const int32_t *v, int32_t lo, int32_t hi) { FLAGS((v[i] >= lo) & (v[i] <= hi)); }
static inline uint64_t word_set8(const uint8_t *v, const mk_set8 *set) { FLAGS(set->table[v[i]]); }

#define WORD_ANY(name, type) \
    static inline uint64_t name(const type *v, const uint32_t *wanted, int count) { \
        uint64_t bits = 0; \
        for (int k = 0; k < count; k++) { \
            uint8_t flags[64]; \
            for (int i = 0; i < 64; i++) flags[i] = v[i] == (type)wanted[k]; \
            bits |= pack_flags(flags); \
        } \
        return bits; \
    }
WORD_ANY(word_any16, uint16_t)
WORD_ANY(word_any32, uint32_t)

#include "masks_loops.h"

static int runs_here(void) { return 1; }

const mk_variant mk_portable = {.name = "portable", MK_LOOPS};
