/* The search in one phase: every allowed row is ranked by its long code. */
#include "search.h"

#include <string.h>

#define BLOCK_ROWS 256    /* 64 KB of 2,048-bit codes */
#define SLICE_ROWS 1024   /* fewer are not worth a thread */

static void rank_block(const search *s, size_t q, hm_ranking *ranking, size_t start, size_t end) {
    const hm_codes *codes = s->codes;
    const hm_query *query = &s->queries[q];
    uint64_t factor, evicted;
    const uint64_t *weights = hm_uneven_weights(query, codes->long_words, &factor);
    for (size_t row = start; row < end; row++) {
        if (codes->allowed && !(codes->allowed[row / 64] >> (row % 64) & 1)) continue;
        uint64_t distance = factor * s->loops->weighted(query->long_code,
                                                        codes->long_codes + row * (size_t)codes->long_words,
                                                        codes->long_words, weights);
        hm_ranking_offer(ranking, (hm_ranked){distance, codes->keys[row], row}, &evicted);
    }
}

static void rank_slice(void *context, int part) {
    search *s = context;
    hm_ranking *rankings = s->rankings + (size_t)part * s->query_count;
    size_t start = slice_start(s, part), end = slice_start(s, part + 1);
    for (size_t q = 0; q < s->query_count; q++) {
        rankings[q].limit = min_size((size_t)s->queries[q].count, end - start);
        rankings[q].items = malloc((rankings[q].limit + 1) * sizeof *rankings[q].items);
        if (!rankings[q].items) s->failed[part] = 1;
    }
    if (s->failed[part]) return;
    for (size_t row = start; row < end; row += BLOCK_ROWS) {
        size_t stop = min_size(end, row + BLOCK_ROWS);
        if (no_row_allowed(s->codes, row, stop)) continue;
        for (size_t q = 0; q < s->query_count; q++) rank_block(s, q, &rankings[q], row, stop);
    }
}

/* Join the slices' rankings of one query into its answer. */
static int report_best(search *s, size_t q) {
    const hm_codes *codes = s->codes;
    size_t all = 0, at = 0;
    for (int part = 0; part < s->parts; part++) all += s->rankings[(size_t)part * s->query_count + q].size;
    hm_ranking joined = {malloc((all + 1) * sizeof *joined.items), all, all};
    size_t kept = min_size(all, (size_t)s->queries[q].count);
    int failed = !joined.items || hm_found_reserve(&s->found[q], kept);
    if (!failed) {
        for (int part = 0; part < s->parts; part++) {
            const hm_ranking *r = &s->rankings[(size_t)part * s->query_count + q];
            memcpy(joined.items + at, r->items, r->size * sizeof *r->items);
            at += r->size;
        }
        hm_ranking_sort(&joined);
        for (size_t i = 0; i < kept; i++) {
            size_t row = (size_t)joined.items[i].position;
            s->found[q].row[i] = (int64_t)row;
            s->found[q].long_distance[i] = (uint32_t)joined.items[i].distance;
            s->loops->distances(s->queries[q].short_code, codes->short_codes + row * (size_t)codes->short_words, 1,
                                codes->short_words, &s->found[q].short_distance[i]);
        }
    }
    free(joined.items);
    return failed;
}

int hm_exhaustive(const hm_loops *loops, const hm_codes *codes, const hm_query *queries, size_t query_count,
                  int threads, hm_found *found) {
    int parts = hm_parts(threads, codes->n, SLICE_ROWS);
    search s = {.loops = loops, .codes = codes, .queries = queries, .query_count = query_count, .parts = parts,
                .found = found};
    memset(found, 0, query_count * sizeof *found);
    s.rankings = calloc((size_t)parts * query_count + 1, sizeof *s.rankings);
    s.failed = calloc((size_t)parts, sizeof *s.failed);
    int failed = !s.rankings || !s.failed;
    if (!failed) {
        hm_parallel(parts, rank_slice, &s);
        failed = any_failed(s.failed, parts);
    }
    for (size_t q = 0; !failed && q < query_count; q++) failed = report_best(&s, q);
    if (s.rankings)
        for (size_t i = 0; i < (size_t)parts * query_count; i++) free(s.rankings[i].items);
    free(s.rankings);
    free(s.failed);
    return failed ? -1 : 0;
}
