/* The search in one phase: every allowed row is ranked by its long code. */
#include "search.h"

#include <string.h>

#define BLOCK_ROWS 64          /* one word of the bitmap; 16 KB of 2,048-bit codes, which stay in L1 for all queries */
#define MIN_RANGE_ROWS 1024    /* fewer cost less than a thread */
#define MAX_ROWS_ONE_BY_ONE 16 /* up to so many rows of a block are counted one by one */

/* Rank the rows of a block, start to end, whose bit in `allowed` is set. */
static void rank_block(const search *s, size_t q, hm_ranking *ranking, size_t start, size_t end, uint64_t allowed) {
    const hm_codes *codes = s->codes;
    const hm_query *query = &s->queries[q];
    size_t words = (size_t)codes->long_words;
    uint64_t factor, evicted, distances[BLOCK_ROWS];
    const uint64_t *weights = hm_uneven_weights(query, codes->long_words, &factor);
    const uint64_t *rows = codes->long_codes + start * words;
    /* The first query reads the rows from memory: the processor's prefetcher follows one row at a time (10 ms for a
     * million rows of 2,048 bits), but not eight side by side (23 ms). */
    int one_by_one = q == 0 || __builtin_popcountll(allowed) <= MAX_ROWS_ONE_BY_ONE;
    /* A factor of 0 makes all rows alike. */
    uint64_t limit = factor ? hm_ranking_max_distance(ranking) / factor : UINT64_MAX;
    if (!one_by_one)
        allowed &= s->variant->weighted_within(query->long_code, rows, end - start, codes->long_words, weights, limit,
                                               distances);
    for (; allowed; allowed &= allowed - 1) {
        size_t i = (size_t)__builtin_ctzll(allowed);
        uint64_t distance = one_by_one
                                ? s->variant->weighted(query->long_code, rows + i * words, codes->long_words, weights)
                                : distances[i];
        hm_ranking_offer(ranking, (hm_ranked){factor * distance, codes->keys[start + i], start + i}, &evicted);
    }
}

static uint64_t allowed_in_block(const hm_codes *codes, size_t start, size_t end) {
    uint64_t all = end - start == BLOCK_ROWS ? ~(uint64_t)0 : ((uint64_t)1 << (end - start)) - 1;
    return codes->allowed ? codes->allowed[start / BLOCK_ROWS] & all : all;
}

static void rank_range(void *context, int range) {
    search *s = context;
    hm_ranking *rankings = s->rankings + (size_t)range * s->query_count;
    size_t start = range_start(s, range), end = range_start(s, range + 1);
    for (size_t q = 0; q < s->query_count; q++) {
        rankings[q].capacity = min_size((size_t)s->queries[q].count, end - start);
        rankings[q].items = malloc((rankings[q].capacity + 1) * sizeof *rankings[q].items);
        if (!rankings[q].items) s->failed[range] = 1;
    }
    if (s->failed[range]) return;
    for (size_t row = start; row < end; row += BLOCK_ROWS) {
        size_t stop = min_size(end, row + BLOCK_ROWS);
        uint64_t allowed = allowed_in_block(s->codes, row, stop);
        for (size_t q = 0; allowed && q < s->query_count; q++) rank_block(s, q, &rankings[q], row, stop, allowed);
    }
}

/* Join the ranges' rankings of one query into its answer. */
static int report_best(search *s, size_t q) {
    const hm_codes *codes = s->codes;
    size_t all = 0, at = 0;
    for (int range = 0; range < s->ranges; range++) all += s->rankings[(size_t)range * s->query_count + q].size;
    hm_ranking joined = {malloc((all + 1) * sizeof *joined.items), all, all};
    size_t kept = min_size(all, (size_t)s->queries[q].count);
    int failed = !joined.items || hm_found_reserve(&s->found[q], kept);
    if (!failed) {
        for (int range = 0; range < s->ranges; range++) {
            const hm_ranking *r = &s->rankings[(size_t)range * s->query_count + q];
            memcpy(joined.items + at, r->items, r->size * sizeof *r->items);
            at += r->size;
        }
        hm_ranking_sort(&joined);
        for (size_t i = 0; i < kept; i++) {
            size_t row = (size_t)joined.items[i].position;
            s->found[q].row[i] = (int64_t)row;
            s->found[q].long_distance[i] = (uint32_t)joined.items[i].distance;
            s->variant->distances(s->queries[q].short_code, codes->short_codes + row * (size_t)codes->short_words, 1,
                                  codes->short_words, &s->found[q].short_distance[i]);
        }
    }
    free(joined.items);
    return failed;
}

int hm_exhaustive(const hm_variant *variant, const hm_codes *codes, const hm_query *queries, size_t query_count,
                  int threads, hm_found *found) {
    int ranges = hm_range_count(threads, codes->n, MIN_RANGE_ROWS);
    search s = {.variant = variant,
                .codes = codes,
                .queries = queries,
                .query_count = query_count,
                .ranges = ranges,
                .found = found};
    memset(found, 0, query_count * sizeof *found);
    s.rankings = calloc((size_t)ranges * query_count + 1, sizeof *s.rankings);
    s.failed = calloc((size_t)ranges, sizeof *s.failed);
    int failed = !s.rankings || !s.failed;
    if (!failed) {
        hm_parallel(ranges, rank_range, &s);
        failed = any_failed(s.failed, ranges);
    }
    for (size_t q = 0; !failed && q < query_count; q++) failed = report_best(&s, q);
    if (s.rankings)
        for (size_t i = 0; i < (size_t)ranges * query_count; i++) free(s.rankings[i].items);
    free(s.rankings);
    free(s.failed);
    return failed ? -1 : 0;
}
