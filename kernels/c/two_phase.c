/* The search in two phases. Rows are split into one range per thread, every range into blocks that fit the cache, and
 * each block is scanned for all queries before the next is read. Answers do not depend on the number of ranges. */
#include "search.h"

#include <string.h>

#define MIN_RANGE_ROWS 16384 /* fewer cost less than a thread */
#define PREFETCH_ROWS 8

/* Add up the ranges' histograms, cut the sum at the threshold of all ranges, and return the number of candidates. */
static size_t cut_at_threshold(const search *s, size_t q, int *threshold) {
    int bits = 64 * s->codes->short_words;
    int64_t *histogram = s->found[q].histogram, seen = 0;
    for (int range = 0; range < s->ranges; range++)
        for (int d = 0; d <= bits; d++) histogram[d] += s->collectors[(size_t)range * s->query_count + q].histogram[d];
    int d = 0;
    while ((uint64_t)(seen += histogram[d]) < s->queries[q].candidates && d < bits) d++;
    *threshold = d;
    while (++d <= bits) histogram[d] = 0;
    return (size_t)seen;
}

/* The candidates by (short distance, row): ranges and hits are in row order, and the counting sort keeps it. Half of
 * the hits lie beyond the threshold: they are all written behind the last candidate, which costs less than a branch. */
static void sort_candidates(const search *s, size_t q, size_t n, int threshold, uint64_t *sorted) {
    size_t next[HM_MAX_SHORT_BITS + 2] = {0};
    for (int d = 0; d <= threshold; d++) next[d + 1] = next[d] + (size_t)s->found[q].histogram[d];
    for (int d = threshold + 1; d <= HM_MAX_SHORT_BITS; d++) next[d] = n;
    for (int range = 0; range < s->ranges; range++) {
        const hm_collector *c = &s->collectors[(size_t)range * s->query_count + q];
        for (size_t i = 0; i < c->used; i++) {
            int distance = hm_hit_distance(c->hits[i]);
            sorted[next[distance]] = c->hits[i];
            next[distance] += distance <= threshold;
        }
    }
}

static void prefetch_row(const hm_codes *codes, uint64_t row) {
    const char *code = (const char *)(codes->long_codes + row * (size_t)codes->long_words);
    for (int byte = 0; byte < 8 * codes->long_words; byte += 64) __builtin_prefetch(code + byte);
    __builtin_prefetch(codes->keys + row);
}

/* Mark the candidates that are among the best `count` of all candidates at their short distance or below: only those
 * can be in the answer of any threshold up to this one, so only those are reported. */
static size_t rank_candidates(const search *s, size_t q, const uint64_t *hits, size_t n, hm_ranking *ranking,
                              uint32_t *longs, uint8_t *reported) {
    const hm_codes *codes = s->codes;
    const hm_query *query = &s->queries[q];
    uint64_t factor, evicted;
    const uint64_t *weights = hm_uneven_weights(query, codes->long_words, &factor);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (i + PREFETCH_ROWS < n) prefetch_row(codes, hm_hit_row(hits[i + PREFETCH_ROWS]));
        uint64_t row = hm_hit_row(hits[i]);
        longs[i] = (uint32_t)(factor * s->variant->weighted(query->long_code,
                                                            codes->long_codes + row * (size_t)codes->long_words,
                                                            codes->long_words, weights));
        reported[i] = (uint8_t)hm_ranking_offer(ranking, (hm_ranked){longs[i], codes->keys[row], i}, &evicted);
        kept += reported[i];
        if (evicted != HM_NO_POSITION && hm_hit_distance(hits[evicted]) == hm_hit_distance(hits[i])) {
            reported[evicted] = 0;
            kept--;
        }
    }
    return kept;
}

static size_t report_all(size_t n, uint32_t *longs, uint8_t *reported) {
    memset(longs, 0, n * sizeof *longs);
    memset(reported, 1, n);
    return n;
}

static int report(hm_found *found, size_t kept, const uint64_t *hits, size_t n, const uint32_t *longs,
                  const uint8_t *reported) {
    if (hm_found_reserve(found, kept)) return -1;
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (!reported[i]) continue;
        found->row[to] = (int64_t)hm_hit_row(hits[i]);
        found->short_distance[to] = (uint16_t)hm_hit_distance(hits[i]);
        found->long_distance[to++] = longs[i];
    }
    return 0;
}

static int finish_query(search *s, size_t q) {
    int threshold;
    size_t n = cut_at_threshold(s, q, &threshold);
    hm_ranking ranking = {NULL, 0, (size_t)s->queries[q].count < n ? (size_t)s->queries[q].count : n};
    uint64_t *hits = hm_scratch_alloc((n + 1) * sizeof *hits);
    uint32_t *longs = hm_scratch_alloc((n + 1) * sizeof *longs);
    uint8_t *reported = hm_scratch_alloc(n + 1);
    ranking.items = hm_scratch_alloc((ranking.capacity + 1) * sizeof *ranking.items);
    int failed = !hits || !longs || !reported || !ranking.items;
    if (!failed) {
        sort_candidates(s, q, n, threshold, hits);
        size_t kept =
            s->phases == 1 ? report_all(n, longs, reported) : rank_candidates(s, q, hits, n, &ranking, longs, reported);
        failed = report(&s->found[q], kept, hits, n, longs, reported);
    }
    hm_scratch_free(ranking.items);
    hm_scratch_free(reported);
    hm_scratch_free(longs);
    hm_scratch_free(hits);
    return failed;
}

static void finish_queries(void *context, int thread) {
    search *s = context;
    for (size_t q = (size_t)thread; q < s->query_count; q += (size_t)s->ranges)
        if (finish_query(s, q)) s->failed[thread] = 1;
}

static int run_phases(int phases, const hm_variant *variant, const hm_codes *codes, const hm_query *queries,
                      size_t query_count, int threads, hm_found *found) {
    int ranges = hm_range_count(threads, codes->n, MIN_RANGE_ROWS);
    search s = {.variant = variant,
                .codes = codes,
                .queries = queries,
                .query_count = query_count,
                .phases = phases,
                .ranges = ranges,
                .found = found};
    memset(found, 0, query_count * sizeof *found);
    s.collectors = calloc((size_t)ranges * query_count + 1, sizeof *s.collectors);
    s.failed = calloc((size_t)ranges, sizeof *s.failed);
    int failed = !s.collectors || !s.failed;
    if (!failed) {
        hm_parallel(ranges, hm_scan_range, &s);
        failed = any_failed(s.failed, ranges);
    }
    if (!failed) {
        hm_parallel(ranges, finish_queries, &s);
        failed = any_failed(s.failed, ranges);
    }
    if (s.collectors)
        for (size_t i = 0; i < (size_t)ranges * query_count; i++) hm_collector_free(&s.collectors[i]);
    free(s.collectors);
    free(s.failed);
    return failed ? -1 : 0;
}

int hm_two_phase(const hm_variant *variant, const hm_codes *codes, const hm_query *queries, size_t query_count,
                 int threads, hm_found *found) {
    return run_phases(2, variant, codes, queries, query_count, threads, found);
}

int hm_candidates(const hm_variant *variant, const hm_codes *codes, const hm_query *queries, size_t query_count,
                  int threads, hm_found *found) {
    return run_phases(1, variant, codes, queries, query_count, threads, found);
}
