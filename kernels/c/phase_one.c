/* Phase one over one slice of rows: the candidates of every query. */
#include "search.h"

#include <string.h>

#define BLOCK_ROWS 2048 /* 64 KB of 256-bit codes; a multiple of 64, so that a block starts at a whole word of the bitmap */
#define MASK_WORDS (BLOCK_ROWS / 64)
#define SAMPLE_RUNS 64  /* a sample is so many runs of rows, evenly spread */
#define SAMPLE_RUN_ROWS 128
#define SAMPLE_FROM_ROWS (16 * SAMPLE_RUNS * SAMPLE_RUN_ROWS)
#define GATHER_BELOW 5 /* allowed rows are gathered when fewer than 1 in so many are allowed (measured at 20M rows) */
#define LOOSE 16       /* a query that wants more than 1 row in so many is cheaper row by row */

/* Rows that lie together in memory. Their numbers are first, first + 1 and so on, or with ids: ids[0], ids[1] (first: 0). */
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
    size_t sliced_count; /* queries that are answered in trios from planes */
    size_t *sliced;      /* which */
    uint8_t *by_row;     /* per query: it is scanned row by row */
    hm_trio *trios;
    void *planes;
    uint64_t *masks; /* per sliced query BLOCK_ROWS bits: its rows within the threshold */
    uint64_t *gathered, *ids, *next_ids;
} slice_scan;

/* ---- how many rows to expect ---- */

static uint64_t count_allowed(const search *s, size_t start, size_t end) {
    const uint64_t *allowed = s->codes->allowed;
    if (!allowed) return end - start;
    uint64_t whole = s->loops->population(allowed + start / 64, end / 64 - start / 64);
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
static int guess_threshold(const slice_scan *scan, size_t q) {
    const hm_codes *codes = scan->s->codes;
    int bits = 64 * codes->short_words;
    uint64_t need = scan->s->queries[q].candidates;
    size_t n = scan->end - scan->start, sampled = 0, histogram[HM_MAX_SHORT_BITS + 1] = {0};
    if (n < SAMPLE_FROM_ROWS || need >= scan->allowed_rows / LOOSE) return bits;
    for (size_t run = 0; run < SAMPLE_RUNS; run++) {
        uint16_t distances[SAMPLE_RUN_ROWS];
        size_t first = scan->start + n / SAMPLE_RUNS * run;
        scan->s->loops->distances(scan->s->queries[q].short_code, codes->short_codes + first * (size_t)codes->short_words,
                                  SAMPLE_RUN_ROWS, codes->short_words, distances);
        for (size_t i = 0; i < SAMPLE_RUN_ROWS; i++) {
            if (codes->allowed && !(codes->allowed[(first + i) / 64] >> (first + i) % 64 & 1)) continue;
            histogram[distances[i]]++;
            sampled++;
        }
    }
    uint64_t expected = (uint64_t)((double)need * (double)sampled / (double)scan->allowed_rows);
    uint64_t wanted = expected + 3 * square_root(expected) + 4, seen = 0;
    for (int d = 0; d < bits; d++)
        if ((seen += histogram[d]) >= wanted) return d;
    return bits;
}

/* ---- rows by way of the bitmap ---- */

/* The numbers of allowed rows from the word at *word of the bitmap on, by whole words, while there is room for 64. Their
 * codes are on their way to the cache. */
static size_t next_rows(const slice_scan *scan, size_t *word, uint64_t *ids) {
    const hm_codes *codes = scan->s->codes;
    size_t found = 0, last = (scan->end + 63) / 64;
    for (; *word < last && found + 64 <= BLOCK_ROWS; ++*word) {
        uint64_t bits = codes->allowed[*word];
        if (*word == scan->end / 64) bits &= ((uint64_t)1 << scan->end % 64) - 1; /* those past the last row are not ours */
        for (; bits; bits &= bits - 1) {
            size_t row = *word * 64 + (size_t)__builtin_ctzll(bits);
            __builtin_prefetch(codes->short_codes + row * (size_t)codes->short_words, 0, 2); /* L2: half the time of L1 */
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

static void name_rows(uint64_t *hits, size_t n, const uint64_t *ids) {
    for (size_t i = 0; i < n; i++) hits[i] = hm_hit((uint64_t)hm_hit_distance(hits[i]), ids[hm_hit_row(hits[i])]);
}

/* Take in the hits that a loop wrote for a query; those of gathered rows still count from 0. */
static void take_hits(hm_collector *c, size_t added, const row_block *block) {
    if (block->ids) name_rows(c->hits + c->used, added, block->ids);
    hm_collector_take(c, added);
}

static int scan_by_row(const slice_scan *scan, size_t q, const row_block *block) {
    hm_collector *c = &scan->collectors[q];
    if (hm_collector_reserve(c, block->n)) return -1;
    size_t added = scan->s->loops->within(scan->s->queries[q].short_code, block->rows, block->n,
                                          scan->s->codes->short_words, block->allowed, c->threshold,
                                          block->first, c->hits + c->used);
    take_hits(c, added, block);
    return 0;
}

static int collect_mask(const slice_scan *scan, size_t q, uint64_t *mask, const row_block *block) {
    hm_collector *c = &scan->collectors[q];
    if (hm_collector_reserve(c, block->n)) return -1;
    size_t added = scan->s->loops->mask_hits(mask, (int)(block->n / 64), scan->s->queries[q].short_code, block->rows,
                                             scan->s->codes->short_words, block->first, c->hits + c->used);
    take_hits(c, added, block);
    return 0;
}

/* Fetch part i of n of the block that follows in memory, while this one is counted. Past the last row nothing happens. */
static void prefetch_following(const row_block *block, int words, size_t i, size_t n) {
    size_t bytes = 8 * block->n * (size_t)words;
    uintptr_t next = (uintptr_t)block->rows + bytes;
    for (size_t at = bytes * i / n / 64 * 64; at < bytes * (i + 1) / n; at += 64) __builtin_prefetch((const void *)(next + at), 0, 2); /* L2: L1 holds the planes */
}

/* Which rows of a block, just as many as planes have bits, are near the sliced queries? Three queries at a time. */
static void mask_in_trios(const slice_scan *scan, const row_block *block, uint64_t *masks) {
    const search *s = scan->s;
    size_t trios = (scan->sliced_count + HM_TRIO - 1) / HM_TRIO;
    s->loops->slice_block(block->rows, s->codes->short_words, scan->planes);
    for (size_t i = 0; i < trios; i++, masks += HM_TRIO * MASK_WORDS) {
        prefetch_following(block, s->codes->short_words, i, trios);
        s->loops->trio_masks(scan->planes, &scan->trios[i], masks, MASK_WORDS);
    }
}

/* Query i of the sliced ones; the last makes up a trio. */
static size_t sliced_query(const slice_scan *scan, size_t i) { return scan->sliced[min_size(i, scan->sliced_count - 1)]; }

static void set_thresholds(const slice_scan *scan) {
    for (size_t i = 0; i < scan->sliced_count; i += HM_TRIO) {
        int thresholds[HM_TRIO];
        for (size_t j = 0; j < HM_TRIO; j++) thresholds[j] = scan->collectors[sliced_query(scan, i + j)].threshold;
        hm_trio_thresholds(&scan->trios[i / HM_TRIO], thresholds);
    }
}

/* All sliced queries over a block: all its masks first, for the hits of one query cost less in longer runs. */
static int scan_in_trios(const slice_scan *scan, const row_block *block) {
    row_block part = *block;
    part.n = 64 * (size_t)scan->s->loops->lanes;
    set_thresholds(scan);
    for (size_t row = 0; row < block->n; row += part.n) {
        mask_in_trios(scan, &part, scan->masks + row / 64);
        part.rows += part.n * (size_t)scan->s->codes->short_words;
    }
    for (size_t i = 0; i < scan->sliced_count; i++)
        if (collect_mask(scan, scan->sliced[i], scan->masks + i * MASK_WORDS, block)) return -1;
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

static int scan_block(const slice_scan *scan, row_block block) {
    for (size_t q = 0; q < scan->s->query_count; q++)
        if (scan->by_row[q] && scan_by_row(scan, q, &block)) return -1;
    if (!scan->sliced_count) return 0;
    row_block whole = block;
    whole.n -= block.n % (64 * (size_t)scan->s->loops->lanes);
    if (scan_in_trios(scan, &whole)) return -1;
    skip_rows(&block, whole.n, scan->s->codes->short_words);
    for (size_t i = 0; block.n && i < scan->sliced_count; i++)
        if (scan_by_row(scan, scan->sliced[i], &block)) return -1;
    return 0;
}

/* ---- one slice ---- */

static int scan_contiguous(const slice_scan *scan) {
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

/* While one block is scanned, the rows of the next are fetched. */
static int scan_gathered(slice_scan *scan) {
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

static int scan_rows(slice_scan *scan) {
    int sparse = scan->allowed_rows < (scan->end - scan->start) / GATHER_BELOW;
    int gathers = scan->s->codes->allowed && (sparse || scan->sliced_count);
    return gathers ? scan_gathered(scan) : scan_contiguous(scan);
}

/* Choose per query between rows and planes, and set a first threshold. */
static void plan(slice_scan *scan) {
    const search *s = scan->s;
    for (size_t q = 0; q < s->query_count; q++) {
        hm_collector_start(&scan->collectors[q], guess_threshold(scan, q), s->queries[q].candidates);
        scan->by_row[q] = s->query_count < (size_t)s->loops->planes_from || s->queries[q].candidates > scan->allowed_rows / LOOSE;
        if (!scan->by_row[q]) scan->sliced[scan->sliced_count++] = q;
    }
    for (size_t i = 0; i < scan->sliced_count; i += HM_TRIO) {
        const uint64_t *trio[HM_TRIO];
        for (size_t j = 0; j < HM_TRIO; j++) trio[j] = s->queries[sliced_query(scan, i + j)].short_code;
        hm_trio_prepare(trio, s->codes->short_words, s->loops->lanes, &scan->trios[i / HM_TRIO]);
    }
}

/* Once more, without a guess, for the queries whose threshold kept too few rows. */
static int scan_again(slice_scan *scan) {
    int bits = 64 * scan->s->codes->short_words, again = 0;
    scan->sliced_count = 0;
    for (size_t q = 0; q < scan->s->query_count; q++) {
        hm_collector *c = &scan->collectors[q];
        hm_collector_count(c);
        scan->by_row[q] = c->within < c->need && c->first_threshold < bits;
        if (!scan->by_row[q]) continue;
        hm_collector_free(c);
        hm_collector_start(c, bits, c->need);
        again = 1;
    }
    return again ? scan_rows(scan) : 0;
}

void hm_scan_slice(void *context, int part) {
    search *s = context;
    slice_scan scan = {.s = s, .collectors = s->collectors + (size_t)part * s->query_count};
    scan.start = slice_start(s, part);
    scan.end = slice_start(s, part + 1);
    scan.allowed_rows = count_allowed(s, scan.start, scan.end);
    size_t words = (size_t)s->codes->short_words;
    scan.sliced = hm_take((s->query_count + 1) * sizeof *scan.sliced);
    scan.by_row = hm_take(s->query_count + 1);
    scan.trios = hm_take((s->query_count / HM_TRIO + 1) * sizeof *scan.trios);
    scan.masks = hm_take((s->query_count + HM_TRIO) * MASK_WORDS * sizeof *scan.masks);
    scan.planes = hm_take(HM_BLOCK_PLANES * HM_MAX_LANES * sizeof(uint64_t));
    scan.gathered = hm_take(BLOCK_ROWS * words * sizeof *scan.gathered);
    scan.ids = hm_take(BLOCK_ROWS * sizeof *scan.ids);
    scan.next_ids = hm_take(BLOCK_ROWS * sizeof *scan.next_ids);
    s->failed[part] = !scan.sliced || !scan.by_row || !scan.trios || !scan.masks || !scan.planes || !scan.gathered || !scan.ids ||
                      !scan.next_ids;
    if (!s->failed[part]) {
        plan(&scan);
        s->failed[part] = scan_rows(&scan) || scan_again(&scan);
        for (size_t q = 0; q < s->query_count; q++) hm_collector_count(&scan.collectors[q]);
    }
    hm_give(scan.next_ids);
    hm_give(scan.ids);
    hm_give(scan.gathered);
    hm_give(scan.planes);
    hm_give(scan.masks);
    hm_give(scan.trios);
    hm_give(scan.by_row);
    hm_give(scan.sliced);
}
