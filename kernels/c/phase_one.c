/* Phase one over one row range: the candidates of every query. */
#include "search.h"

#include <string.h>

#define BLOCK_ROWS 2048 /* 64 KB of 256-bit codes; a multiple of 64, the rows of a word of the bitmap */
#define MASK_WORDS (BLOCK_ROWS / 64)
#define SAMPLE_RUNS 64 /* a sample is so many runs of rows, evenly spread */
#define SAMPLE_RUN_ROWS 128
#define MIN_SAMPLED_RANGE_ROWS (16 * SAMPLE_RUNS * SAMPLE_RUN_ROWS)
#define MIN_ROWS_PER_ALLOWED 5 /* allowed rows are gathered when fewer than 1 in so many are (measured at 20M rows) */
#define MIN_ROWS_PER_CANDIDATE 16 /* a query that wants more than 1 row in so many is cheaper row by row */

/* Rows that lie together in memory. Their numbers are first, first + 1 and so on, or ids, when first is 0. */
typedef struct {
    const uint64_t *rows, *ids, *allowed;
    uint64_t first;
    size_t n;
} row_block;

typedef struct {
    const search *s;
    hm_collector *collectors;
    size_t start, end;
    uint64_t allowed_rows;
    size_t plane_query_count; /* queries that are answered in triples from bit planes */
    size_t *plane_queries;    /* their numbers */
    uint8_t *by_row;          /* per query: it is scanned row by row */
    hm_query_triple *triples;
    void *planes;
    uint64_t *masks; /* per query on planes BLOCK_ROWS bits: its rows within the threshold */
    uint64_t *gathered, *ids, *next_ids;
} range_scan;

/* ---- how many rows to expect ---- */

static uint64_t count_allowed(const search *s, size_t start, size_t end) {
    const uint64_t *allowed = s->codes->allowed;
    if (!allowed) return end - start;
    uint64_t whole = s->variant->population(allowed + start / 64, end / 64 - start / 64);
    if (end % 64) whole += (uint64_t)__builtin_popcountll(allowed[end / 64] & (((uint64_t)1 << end % 64) - 1));
    return whole;
}

static uint64_t square_root(uint64_t x) {
    uint64_t root = 0;
    while ((root + 1) * (root + 1) <= x) root++;
    return root;
}

/* A threshold that most likely keeps the rows wanted, guessed from a sample; the largest distance when it is too small.
 * Three standard deviations above the expectation: a wrong guess costs a second pass, a loose one a few more hits. */
static int guess_threshold(const range_scan *scan, size_t q) {
    const hm_codes *codes = scan->s->codes;
    int bits = 64 * codes->short_words;
    uint64_t wanted = scan->s->queries[q].candidates;
    size_t n = scan->end - scan->start, sampled = 0, histogram[HM_MAX_SHORT_BITS + 1] = {0};
    if (n < MIN_SAMPLED_RANGE_ROWS || wanted >= scan->allowed_rows / MIN_ROWS_PER_CANDIDATE) return bits;
    for (size_t run = 0; run < SAMPLE_RUNS; run++) {
        uint16_t distances[SAMPLE_RUN_ROWS];
        size_t first = scan->start + n / SAMPLE_RUNS * run;
        scan->s->variant->distances(scan->s->queries[q].short_code,
                                    codes->short_codes + first * (size_t)codes->short_words, SAMPLE_RUN_ROWS,
                                    codes->short_words, distances);
        for (size_t i = 0; i < SAMPLE_RUN_ROWS; i++) {
            if (codes->allowed && !(codes->allowed[(first + i) / 64] >> (first + i) % 64 & 1)) continue;
            histogram[distances[i]]++;
            sampled++;
        }
    }
    uint64_t expected = (uint64_t)((double)wanted * (double)sampled / (double)scan->allowed_rows);
    uint64_t required = expected + 3 * square_root(expected) + 4, seen = 0;
    for (int d = 0; d < bits; d++)
        if ((seen += histogram[d]) >= required) return d;
    return bits;
}

/* ---- rows listed from the bitmap ---- */

/* The numbers of allowed rows from the word at *word of the bitmap on, by whole words, while 64 more fit. Their
 * codes are prefetched. */
static size_t next_rows(const range_scan *scan, size_t *word, uint64_t *ids) {
    const hm_codes *codes = scan->s->codes;
    size_t found = 0, last = (scan->end + 63) / 64;
    for (; *word < last && found + 64 <= BLOCK_ROWS; ++*word) {
        uint64_t bits = codes->allowed[*word];
        if (*word == scan->end / 64) bits &= ((uint64_t)1 << scan->end % 64) - 1; /* none past the last row */
        for (; bits; bits &= bits - 1) {
            size_t row = *word * 64 + (size_t)__builtin_ctzll(bits);
            /* To L2: it takes half the time of L1. */
            __builtin_prefetch(codes->short_codes + row * (size_t)codes->short_words, 0, 2);
            ids[found++] = row;
        }
    }
    return found;
}

#define GATHER(words) \
    for (size_t i = 0; i < n; i++) memcpy(out + i * (words), rows + ids[i] * (words), 8 * (words))

static void gather(const uint64_t *rows, int words, const uint64_t *ids, size_t n, uint64_t *out) {
    switch (words) { /* a width known to the compiler makes a copy one or two moves */
        case 1: GATHER(1); break;
        case 2: GATHER(2); break;
        case 3: GATHER(3); break;
        default: GATHER(4);
    }
}

/* ---- one block ---- */

static void number_rows(uint64_t *hits, size_t n, const uint64_t *ids) {
    for (size_t i = 0; i < n; i++) hits[i] = hm_hit((uint64_t)hm_hit_distance(hits[i]), ids[hm_hit_row(hits[i])]);
}

/* Add the hits that a loop wrote for a query; rows that were gathered still need their numbers. */
static void add_hits(hm_collector *c, size_t added, const row_block *block) {
    if (block->ids) number_rows(c->hits + c->used, added, block->ids);
    hm_collector_add(c, added);
}

static int scan_by_row(const range_scan *scan, size_t q, const row_block *block) {
    hm_collector *c = &scan->collectors[q];
    if (hm_collector_reserve(c, block->n)) return -1;
    size_t added =
        scan->s->variant->within(scan->s->queries[q].short_code, block->rows, block->n, scan->s->codes->short_words,
                                 block->allowed, c->threshold, block->first, c->hits + c->used);
    add_hits(c, added, block);
    return 0;
}

static int collect_mask(const range_scan *scan, size_t q, uint64_t *mask, const row_block *block) {
    hm_collector *c = &scan->collectors[q];
    if (hm_collector_reserve(c, block->n)) return -1;
    size_t added = scan->s->variant->mask_hits(mask, (int)(block->n / 64), scan->s->queries[q].short_code, block->rows,
                                               scan->s->codes->short_words, block->first, c->hits + c->used);
    add_hits(c, added, block);
    return 0;
}

/* Prefetch part i of n of the block that follows in memory, while this one is counted; harmless past the last row. */
static void prefetch_following(const row_block *block, int words, size_t i, size_t n) {
    size_t bytes = 8 * block->n * (size_t)words;
    uintptr_t next = (uintptr_t)block->rows + bytes;
    for (size_t at = bytes * i / n / 64 * 64; at < bytes * (i + 1) / n; at += 64)
        __builtin_prefetch((const void *)(next + at), 0, 2); /* to L2: L1 holds the planes */
}

/* Mask the rows of one block of bit planes that are within the thresholds, three queries at a time. */
static void mask_block(const range_scan *scan, const row_block *block, uint64_t *masks) {
    const search *s = scan->s;
    size_t triples = (scan->plane_query_count + HM_TRIPLE - 1) / HM_TRIPLE;
    s->variant->to_bit_planes(block->rows, s->codes->short_words, scan->planes);
    for (size_t i = 0; i < triples; i++, masks += HM_TRIPLE * MASK_WORDS) {
        prefetch_following(block, s->codes->short_words, i, triples);
        s->variant->triple_masks(scan->planes, &scan->triples[i], masks, MASK_WORDS);
    }
}

/* Query i of those on planes; the last is repeated to complete a triple. */
static size_t plane_query(const range_scan *scan, size_t i) {
    return scan->plane_queries[min_size(i, scan->plane_query_count - 1)];
}

static void set_thresholds(const range_scan *scan) {
    for (size_t i = 0; i < scan->plane_query_count; i += HM_TRIPLE) {
        int thresholds[HM_TRIPLE];
        for (size_t j = 0; j < HM_TRIPLE; j++) thresholds[j] = scan->collectors[plane_query(scan, i + j)].threshold;
        hm_triple_set_thresholds(&scan->triples[i / HM_TRIPLE], thresholds);
    }
}

/* All queries on planes over a block: first all masks, because the hits of one query cost less in longer runs. */
static int scan_by_planes(const range_scan *scan, const row_block *block) {
    row_block part = *block;
    part.n = 64 * (size_t)scan->s->variant->lanes;
    set_thresholds(scan);
    for (size_t row = 0; row < block->n; row += part.n) {
        mask_block(scan, &part, scan->masks + row / 64);
        part.rows += part.n * (size_t)scan->s->codes->short_words;
    }
    for (size_t i = 0; i < scan->plane_query_count; i++)
        if (collect_mask(scan, scan->plane_queries[i], scan->masks + i * MASK_WORDS, block)) return -1;
    return 0;
}

static void skip_rows(row_block *block, size_t rows, int words) {
    block->rows += rows * (size_t)words;
    block->n -= rows;
    if (block->ids)
        block->ids += rows;
    else
        block->first += rows;
    if (block->allowed) block->allowed += rows / 64;
}

static int scan_block(const range_scan *scan, row_block block) {
    for (size_t q = 0; q < scan->s->query_count; q++)
        if (scan->by_row[q] && scan_by_row(scan, q, &block)) return -1;
    if (!scan->plane_query_count) return 0;
    row_block whole = block;
    whole.n -= block.n % (64 * (size_t)scan->s->variant->lanes);
    if (scan_by_planes(scan, &whole)) return -1;
    skip_rows(&block, whole.n, scan->s->codes->short_words);
    for (size_t i = 0; block.n && i < scan->plane_query_count; i++)
        if (scan_by_row(scan, scan->plane_queries[i], &block)) return -1;
    return 0;
}

/* ---- one row range ---- */

static int scan_contiguous(const range_scan *scan) {
    const hm_codes *codes = scan->s->codes;
    for (size_t row = scan->start; row < scan->end; row += BLOCK_ROWS) {
        size_t stop = min_size(scan->end, row + BLOCK_ROWS);
        if (no_row_allowed(codes, row, stop)) continue;
        row_block block = {codes->short_codes + row * (size_t)codes->short_words, NULL,
                           codes->allowed ? codes->allowed + row / 64 : NULL, row, stop - row};
        if (scan_block(scan, block)) return -1;
    }
    return 0;
}

/* While one block is scanned, the rows of the next are prefetched. */
static int scan_gathered(range_scan *scan) {
    const hm_codes *codes = scan->s->codes;
    size_t word = scan->start / 64;
    size_t n = next_rows(scan, &word, scan->ids);
    while (n) {
        gather(codes->short_codes, codes->short_words, scan->ids, n, scan->gathered);
        size_t next = next_rows(scan, &word, scan->next_ids);
        if (scan_block(scan, (row_block){scan->gathered, scan->ids, NULL, 0, n})) return -1;
        uint64_t *ids = scan->ids;
        scan->ids = scan->next_ids;
        scan->next_ids = ids;
        n = next;
    }
    return 0;
}

static int scan_rows(range_scan *scan) {
    int sparse = scan->allowed_rows < (scan->end - scan->start) / MIN_ROWS_PER_ALLOWED;
    int gathers = scan->s->codes->allowed && (sparse || scan->plane_query_count);
    return gathers ? scan_gathered(scan) : scan_contiguous(scan);
}

/* Choose per query between rows and bit planes, and set a first threshold. */
static void plan(range_scan *scan) {
    const search *s = scan->s;
    for (size_t q = 0; q < s->query_count; q++) {
        hm_collector_start(&scan->collectors[q], guess_threshold(scan, q), s->queries[q].candidates);
        scan->by_row[q] = s->query_count < (size_t)s->variant->min_plane_queries ||
                          s->queries[q].candidates > scan->allowed_rows / MIN_ROWS_PER_CANDIDATE;
        if (!scan->by_row[q]) scan->plane_queries[scan->plane_query_count++] = q;
    }
    for (size_t i = 0; i < scan->plane_query_count; i += HM_TRIPLE) {
        const uint64_t *triple[HM_TRIPLE];
        for (size_t j = 0; j < HM_TRIPLE; j++) triple[j] = s->queries[plane_query(scan, i + j)].short_code;
        hm_triple_prepare(triple, s->codes->short_words, s->variant->lanes, &scan->triples[i / HM_TRIPLE]);
    }
}

/* Once more, without a guess, for the queries whose threshold kept too few rows. */
static int scan_again(range_scan *scan) {
    int bits = 64 * scan->s->codes->short_words, again = 0;
    scan->plane_query_count = 0;
    for (size_t q = 0; q < scan->s->query_count; q++) {
        hm_collector *c = &scan->collectors[q];
        hm_collector_count(c);
        scan->by_row[q] = c->within < c->wanted && c->first_threshold < bits;
        if (!scan->by_row[q]) continue;
        hm_collector_free(c);
        hm_collector_start(c, bits, c->wanted);
        again = 1;
    }
    return again ? scan_rows(scan) : 0;
}

void hm_scan_range(void *context, int range) {
    search *s = context;
    range_scan scan = {.s = s, .collectors = s->collectors + (size_t)range * s->query_count};
    scan.start = range_start(s, range);
    scan.end = range_start(s, range + 1);
    scan.allowed_rows = count_allowed(s, scan.start, scan.end);
    size_t words = (size_t)s->codes->short_words;
    scan.plane_queries = hm_scratch_alloc((s->query_count + 1) * sizeof *scan.plane_queries);
    scan.by_row = hm_scratch_alloc(s->query_count + 1);
    scan.triples = hm_scratch_alloc((s->query_count / HM_TRIPLE + 1) * sizeof *scan.triples);
    scan.masks = hm_scratch_alloc((s->query_count + HM_TRIPLE) * MASK_WORDS * sizeof *scan.masks);
    scan.planes = hm_scratch_alloc(HM_BLOCK_PLANES * HM_MAX_LANES * sizeof(uint64_t));
    scan.gathered = hm_scratch_alloc(BLOCK_ROWS * words * sizeof *scan.gathered);
    scan.ids = hm_scratch_alloc(BLOCK_ROWS * sizeof *scan.ids);
    scan.next_ids = hm_scratch_alloc(BLOCK_ROWS * sizeof *scan.next_ids);
    s->failed[range] = !scan.plane_queries || !scan.by_row || !scan.triples || !scan.masks || !scan.planes ||
                       !scan.gathered || !scan.ids || !scan.next_ids;
    if (!s->failed[range]) {
        plan(&scan);
        s->failed[range] = scan_rows(&scan) || scan_again(&scan);
        for (size_t q = 0; q < s->query_count; q++) hm_collector_count(&scan.collectors[q]);
    }
    hm_scratch_free(scan.next_ids);
    hm_scratch_free(scan.ids);
    hm_scratch_free(scan.gathered);
    hm_scratch_free(scan.planes);
    hm_scratch_free(scan.masks);
    hm_scratch_free(scan.triples);
    hm_scratch_free(scan.by_row);
    hm_scratch_free(scan.plane_queries);
}
