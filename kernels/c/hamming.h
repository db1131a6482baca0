/* Exact Hamming search over packed codes: the types and functions that the files of this folder share.
 *
 * A code is a row of 64-bit words. Rows lie one after the other in memory, read only.
 *   two_phase.c      both phases over row ranges, one thread each; exhaustive.c: the search in one phase
 *   phase_one.c      phase one for all queries over a row range: row by row or on bit planes, filters
 *   collector.c      phase one for one query: the rows within a threshold that falls while rows are scanned
 *   ranking.c        the best rows by (long distance, key)
 *   query_triples.c  three queries prepared for bit_planes.h
 *   isa/             the innermost loops, one file per instruction set, each function with its own target attribute
 *   bit_planes.h     the one of those loops that takes many queries at once; included by each instruction set
 *   variants.c       which instruction sets were compiled in
 *   scratch.c        memory cached between calls; threads.c: short-lived threads
 */
#ifndef LOOKALIKE_HAMMING_H
#define LOOKALIKE_HAMMING_H

#include <stddef.h>
#include <stdint.h>

#define HM_MAX_SHORT_WORDS 4
#define HM_MAX_SHORT_BITS (64 * HM_MAX_SHORT_WORDS)
#define HM_MAX_LONG_WORDS 128

/* A hit is one word: the distance above, the row below. Sorting hits sorts by (distance, row). */
#define HM_ROW_BITS 48
#define HM_MAX_ROWS ((uint64_t)1 << HM_ROW_BITS)
static inline uint64_t hm_hit(uint64_t distance, uint64_t row) { return distance << HM_ROW_BITS | row; }
static inline int hm_hit_distance(uint64_t hit) { return (int)(hit >> HM_ROW_BITS); }
static inline uint64_t hm_hit_row(uint64_t hit) { return hit & (HM_MAX_ROWS - 1); }

/* A loop that appends hits may write this many words past the last one: it stores whole registers. */
#define HM_HIT_PADDING 8

/* Three queries, prepared for counting their distances to a block of bit planes together (see bit_planes.h). */
#define HM_TRIPLE 3
#define HM_CLASSES 4     /* bits where they agree; where the second, the third, or both differ from the first */
#define HM_PLANE_GROUP 8 /* planes are added in groups of so many */
#define HM_BLOCK_PLANES (HM_MAX_SHORT_BITS + 1)
#define HM_COUNTER_BITS 9       /* a count is 0 to 256 */
#define HM_SMALL_COUNTER_BITS 7 /* the same where no class has more than 127 members, as is usual */
typedef struct {
    /* Byte offsets of planes, class by class: first where the first query has a 1, then where it has a 0, each padded
     * to whole groups with the plane of zeros. */
    uint16_t list[HM_MAX_SHORT_BITS + HM_PLANE_GROUP * 2 * HM_CLASSES];
    int groups[HM_CLASSES][2];
    uint64_t start_bits[HM_CLASSES][HM_COUNTER_BITS]; /* see count_class */
    int small;                                        /* no class has more than 127 members */
    int offsets[HM_TRIPLE], thresholds[HM_TRIPLE];
    uint64_t limit_bits[HM_TRIPLE][HM_COUNTER_BITS + 1]; /* the thresholds, each bit spread over a word */
} hm_query_triple;

/* The sum of two counts; those of 9 bits are over disjoint bits of a code, so that their sum is at most 256 again. */
static inline int hm_sum_bits(int bits) { return bits < HM_COUNTER_BITS ? bits + 1 : bits; }

/* The innermost loops of one instruction set. On every instruction set they give the same answers. */
typedef struct {
    const char *name;
    int (*runs_here)(void);
    /* The distance of each of n rows to the query. */
    void (*distances)(const uint64_t *query, const uint64_t *rows, size_t n, int words, uint16_t *out);
    /* Those of n rows that are allowed and within the threshold: appends hits in row order and returns how many.
     * Bit i of `allowed` is row i of these n (NULL: all); `first` is the number of row 0.
     * `out` has room for n + HM_HIT_PADDING. */
    size_t (*within)(const uint64_t *query, const uint64_t *rows, size_t n, int words, const uint64_t *allowed,
                     int threshold, uint64_t first, uint64_t *out);
    /* The sum over words of weight times distance; weights NULL means 1 each. */
    uint64_t (*weighted)(const uint64_t *query, const uint64_t *row, int words, const uint64_t *weights);
    /* The same for each of n rows, at most 64; returns a mask of those within the limit. */
    uint64_t (*weighted_within)(const uint64_t *query, const uint64_t *rows, size_t n, int words,
                                const uint64_t *weights, uint64_t limit, uint64_t *out);
    /* The bits that are set in n words. */
    uint64_t (*population)(const uint64_t *words, size_t n);

    /* Many queries against 64 * lanes rows: transpose the block to bit planes; mask the rows within the thresholds of
     * three queries (masks of `lanes` words, the queries' masks `stride` words apart); then list the rows of a mask of
     * up to 64 words as `within` does, which clears the mask. Fewer queries than `min_plane_queries` are faster row by
     * row. */
    int lanes, min_plane_queries;
    void (*to_bit_planes)(const uint64_t *rows, int words, void *planes);
    void (*triple_masks)(const void *planes, const hm_query_triple *triple, uint64_t *masks, size_t stride);
    size_t (*mask_hits)(uint64_t *mask, int mask_words, const uint64_t *query, const uint64_t *rows, int words,
                        uint64_t first, uint64_t *out);
} hm_variant;

#define HM_MAX_LANES 8

extern const hm_variant *const hm_variants[]; /* slowest first, ends with NULL; those compiled in */

extern const hm_variant hm_portable, hm_popcnt, hm_avx2, hm_avx512, hm_neon;

/* Rows that were found at or below a threshold which only ever falls: it is the smallest distance that still keeps
 * `wanted` rows of those counted so far. The histogram is exact at and below the threshold once all are counted. */
typedef struct {
    uint64_t *hits;
    size_t used, counted, capacity;
    uint64_t wanted, within; /* rows wanted; rows seen at or below the threshold */
    int threshold, first_threshold;
    int64_t histogram[HM_MAX_SHORT_BITS + 1];
} hm_collector;

#define HM_MIN_UNCOUNTED 64

void hm_collector_start(hm_collector *c, int threshold, uint64_t wanted);
void hm_collector_count(hm_collector *c); /* those added since the last time; the threshold may fall */
int hm_collector_grow(hm_collector *c, size_t extra);
void hm_collector_free(hm_collector *c);

/* Make room for `extra` more hits and the padding: 0, or -1 without memory. */
static inline int hm_collector_reserve(hm_collector *c, size_t extra) {
    return c->capacity - c->used >= extra + HM_HIT_PADDING ? 0 : hm_collector_grow(c, extra + HM_HIT_PADDING);
}

/* Add the hits that a loop wrote at hits + used. Counting waits until there are many: a few at a time, the end of the
 * counting loop is mispredicted each time. */
static inline void hm_collector_add(hm_collector *c, size_t added) {
    c->used += added;
    if (c->used - c->counted >= HM_MIN_UNCOUNTED) hm_collector_count(c);
}

/* The best `capacity` of the rows offered, by (distance, key, position): a heap with the worst on top. */
typedef struct {
    uint64_t distance, key, position;
} hm_ranked;

typedef struct {
    hm_ranked *items;
    size_t size, capacity;
} hm_ranking;

#define HM_NO_POSITION UINT64_MAX
/* 1 when the row entered; *evicted is then the position of the row that left, or HM_NO_POSITION. */
int hm_ranking_offer(hm_ranking *r, hm_ranked row, uint64_t *evicted);
/* Rows farther than this cannot enter. */
static inline uint64_t hm_ranking_max_distance(const hm_ranking *r) {
    return r->capacity && r->size == r->capacity ? r->items[0].distance : UINT64_MAX;
}
void hm_ranking_sort(hm_ranking *r); /* best first; the ranking accepts no more rows */

typedef struct {
    const uint64_t *short_codes, *long_codes, *keys;
    const uint64_t *allowed; /* bitmap over rows, or NULL */
    size_t n;
    int short_words, long_words;
} hm_codes;

typedef struct {
    const uint64_t *short_code, *long_code;
    const uint64_t *word_weights; /* one per word of the long code */
    uint64_t count, candidates;
} hm_query;

/* One query's answer. The arrays belong to the caller, who frees them with hm_found_free. */
typedef struct {
    size_t rows;
    int64_t *row;
    uint16_t *short_distance;
    uint32_t *long_distance;
    int64_t histogram[HM_MAX_SHORT_BITS + 1];
} hm_found;

/* The three searches; candidates is two_phase without its second phase. 0, or -1 without memory. `found` has one entry
 * per query and is safe to free either way. */
int hm_two_phase(const hm_variant *variant, const hm_codes *codes, const hm_query *queries, size_t query_count,
                 int threads, hm_found *found);
int hm_candidates(const hm_variant *variant, const hm_codes *codes, const hm_query *queries, size_t query_count,
                  int threads, hm_found *found);
int hm_exhaustive(const hm_variant *variant, const hm_codes *codes, const hm_query *queries, size_t query_count,
                  int threads, hm_found *found);
void hm_found_free(hm_found *found, size_t query_count);

/* Run work(context, task) for each task on a thread of its own, the last on the caller's; return when all are done. */
void hm_parallel(int tasks, void (*work)(void *context, int task), void *context);

#endif
