/* What the two kinds of search share: row ranges, the blocks in them, the state of a call. */
#ifndef LOOKALIKE_SEARCH_H
#define LOOKALIKE_SEARCH_H

#include "hamming.h"

#include <stdlib.h>

typedef struct {
    const hm_variant *variant;
    const hm_codes *codes;
    const hm_query *queries;
    size_t query_count;
    int phases;               /* two, or one to stop at the candidates */
    int ranges;               /* row ranges, one thread each */
    hm_collector *collectors; /* two-phase: ranges x queries */
    hm_ranking *rankings;     /* exhaustive: ranges x queries */
    hm_found *found;
    int *failed; /* one flag per range: it ran out of memory */
} search;

static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/* Row ranges start at whole words of the bitmap. */
static inline size_t range_start(const search *s, int range) {
    if (range == s->ranges) return s->codes->n;
    return (size_t)((unsigned __int128)s->codes->n * (unsigned)range / (unsigned)s->ranges) / 64 * 64;
}

static inline int no_row_allowed(const hm_codes *codes, size_t start, size_t end) {
    if (!codes->allowed) return 0;
    for (size_t row = start; row < end; row += 64)
        if (codes->allowed[row / 64]) return 0;
    return 1;
}

static inline int any_failed(const int *failed, int ranges) {
    for (int range = 0; range < ranges; range++)
        if (failed[range]) return 1;
    return 0;
}

/* Scratch memory, aligned to 64 bytes and not cleared; NULL without memory. hm_scratch_free accepts NULL. */
void *hm_scratch_alloc(size_t bytes);
void hm_scratch_free(void *memory);

/* Into how many ranges to split n rows: at most one per thread, each of at least `min_rows` where there are two. */
int hm_range_count(int threads, size_t n, size_t min_rows);

/* NULL when the weights are all alike: *factor then multiplies the plain distance. */
const uint64_t *hm_uneven_weights(const hm_query *query, int words, uint64_t *factor);

/* Phase one over row range `range` of the search that is the context: fills its collectors. */
void hm_scan_range(void *context, int range);

/* Prepare three queries, of which some may be the same, for being counted together on planes of `lanes` words. */
void hm_triple_prepare(const uint64_t *const queries[HM_TRIPLE], int words, int lanes, hm_query_triple *triple);
void hm_triple_set_thresholds(hm_query_triple *triple, const int thresholds[HM_TRIPLE]);

/* Allocate an answer of `rows` rows; 0, or -1 without memory. */
int hm_found_reserve(hm_found *found, size_t rows);

#endif
