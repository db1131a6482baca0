/* Conditions on columns, evaluated to bitmaps: row i is bit i % 64 of word i / 64, and bits past the last row are 0.
 *
 *   masks.c            what has no innermost loop of its own: the rows of a bitmap again, nodes of a tree
 *   isa/masks_loops.h  the loops over all rows, included by each instruction set, which gives it words of 64 rows
 */
#ifndef LOOKALIKE_MASKS_H
#define LOOKALIKE_MASKS_H

#include <stddef.h>
#include <stdint.h>

#define MK_WORDS(n) (((n) + 63) / 64)
#define MK_INLINE static inline __attribute__((always_inline))

#define MK_MAX_COMPARED 8 /* above this many a table costs less than a comparison with each */

/* Which numbers are wanted. */
typedef struct {
    const uint8_t *table; /* 1 for a number that is, 0 otherwise; it ends with a 0, or with the type's largest number */
    uint32_t size;        /* of the table; a larger number is not wanted */
    const uint32_t *wanted; /* the same as a list, if there are at most MK_MAX_COMPARED, otherwise NULL */
    int count;
} mk_set;

/* Which bytes are wanted: as a table, and as two tables of 16, by the low digit, with a bit for each high digit of 0 to
 * 7 and of 8 to 15 (W. Mula, "SIMD byte lookup"). */
typedef struct {
    uint8_t table[256], low[16], high[16];
} mk_set8;

/* The rows near a point. Degrees are int32 in units of 1e-7; the smallest int32 is no value. */
typedef struct {
    int32_t south, north, west[2], east[2]; /* inclusive; cut in two at 180 degrees, and the second part may be empty */
} mk_box;

typedef struct {
    mk_box outer, inner;      /* no row outside the one is near, every row inside the other */
    double lat, lon, cos_lat; /* the point, in the same units */
    double limit, margin;     /* of the squared half chord; within the margin it is not decided */
} mk_circle;

typedef struct {
    const char *name;
    int (*runs_here)(void);
    /* Rows with a value from lo to hi; NaN never is. */
    void (*within_f64)(const double *values, size_t n, double lo, double hi, uint64_t *out);
    void (*within_i64)(const int64_t *values, size_t n, int64_t lo, int64_t hi, uint64_t *out);
    /* Rows with a number of the set. */
    void (*member_u8)(const uint8_t *numbers, size_t n, mk_set set, uint64_t *out);
    void (*member_u16)(const uint16_t *numbers, size_t n, mk_set set, uint64_t *out);
    void (*member_u32)(const uint32_t *numbers, size_t n, mk_set set, uint64_t *out);
    /* Rows near the point, and those of which this arithmetic cannot tell. */
    void (*near)(const int32_t *lat, const int32_t *lon, size_t n, const mk_circle *circle, uint64_t *out,
                 uint64_t *unsure);
} mk_variant;

extern const mk_variant *const mk_variants[]; /* slowest first, ends with NULL; those compiled in */
extern const mk_variant mk_portable, mk_avx2, mk_avx512;

/* Mark every node below a marked one. A parent precedes its children; the root, node 0, is its own. */
void mk_mark_below(const uint32_t *parents, size_t n, uint8_t *marks);

/* Texts end to end: text i has lengths[i] bytes at data + starts[i]. */
typedef struct {
    const uint8_t *data;
    const int64_t *starts, *lengths;
    size_t count;
} mk_texts;

/* Two ids per row in blobs of 32-bit words: uint16 length of the first, uint16 length of the second, their bytes. With
 * the top bit of the second length set, the second begins the first and is not stored again. */
typedef struct {
    const uint32_t *words, *offsets; /* where the blob of each row begins, in words */
} mk_ids;
#define MK_BEGINS_FIRST 0x8000u

/* Those rows of `where` whose second id is one of the texts. 0, or -1 without memory. */
int mk_second_ids_where(const mk_ids *ids, size_t n, const mk_texts *wanted, const uint64_t *where, uint64_t *out);

/* 16 bits of a hash of each text. */
void mk_hash_texts(const mk_texts *texts, uint16_t *out);

#endif
