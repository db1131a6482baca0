/* What the two kinds of search share: slices of rows, the blocks in them, the state of a call. */
#ifndef LOOKALIKE_SEARCH_H
#define LOOKALIKE_SEARCH_H

#include "hamming.h"

#include <stdlib.h>

typedef struct {
    const hm_loops *loops;
    const hm_codes *codes;
    const hm_query *queries;
    size_t query_count;
    int phases;               /* two, or one to stop at the candidates */
    int parts;                /* slices of rows, one thread each */
    hm_collector *collectors; /* two-phase: parts x queries */
    hm_ranking *rankings;     /* exhaustive: parts x queries */
    hm_found *found;
    int *failed; /* one flag per part: it ran out of memory */
} search;

static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/* Slices start at whole words of the bitmap. */
static inline size_t slice_start(const search *s, int part) {
    if (part == s->parts) return s->codes->n;
    return (size_t)((unsigned __int128)s->codes->n * (unsigned)part / (unsigned)s->parts) / 64 * 64;
}

static inline int no_row_allowed(const hm_codes *codes, size_t start, size_t end) {
    if (!codes->allowed) return 0;
    for (size_t row = start; row < end; row += 64)
        if (codes->allowed[row / 64]) return 0;
    return 1;
}

static inline int any_failed(const int *failed, int parts) {
    for (int part = 0; part < parts; part++)
        if (failed[part]) return 1;
    return 0;
}

/* Scratch memory, aligned to 64 bytes and not cleared; NULL without memory. hm_give takes NULL too. */
void *hm_take(size_t bytes);
void hm_give(void *memory);

/* The number of slices: no more than threads, and none smaller than one thread is worth. */
int hm_parts(int threads, size_t n, size_t least_rows);

/* NULL when the weights are all alike: *factor then multiplies the plain distance. */
const uint64_t *hm_uneven_weights(const hm_query *query, int words, uint64_t *factor);

/* Phase one over slice `part` of the search that is the context: fills its collectors. */
void hm_scan_slice(void *context, int part);

/* Prepare three queries (of which some may be the same) for being counted together, on planes of `lanes` words. */
void hm_trio_prepare(const uint64_t *const queries[HM_TRIO], int words, int lanes, hm_trio *trio);
void hm_trio_thresholds(hm_trio *trio, const int thresholds[HM_TRIO]);

/* Room for an answer of `rows` rows; 0, or -1 without memory. */
int hm_found_reserve(hm_found *found, size_t rows);

#endif
