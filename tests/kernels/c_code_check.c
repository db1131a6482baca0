/* The key table, the word index, and every instruction-set variant that was compiled in and runs here, against plain
 * definitions: for builds that Python cannot load, under sanitizers and for another processor. All arrays have just the
 * size that they need, so that a sanitizer sees any access beyond. Prints the variants that were checked; exits with 1
 * at the first difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "key_table.h"
#include "masks.h"
#include "search.h"
#include "word_index.h"

static uint64_t state = 88172645463325252u;

static uint64_t any(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static void expect(int holds, const char *variant, const char *what, size_t n, int words) {
    if (holds) return;
    printf("%s: wrong %s with %zu rows of %d words\n", variant, what, n, words);
    exit(1);
}

static unsigned bits_that_differ(const uint64_t *a, const uint64_t *b, int words) {
    unsigned sum = 0;
    for (int w = 0; w < words; w++)
        for (uint64_t x = a[w] ^ b[w]; x; x >>= 1) sum += x & 1;
    return sum;
}

/* Few different rows, so that ties are the rule, and one far from all. */
static uint64_t *some_rows(size_t n, int words, const uint64_t *query) {
    uint64_t *rows = malloc(n * (size_t)words * 8);
    for (size_t i = 0; i < n; i++)
        for (int w = 0; w < words; w++)
            rows[i * (size_t)words + (size_t)w] = i % 97 == 5 ? ~query[w] : query[w] ^ (any() & any() & any());
    return rows;
}

static uint64_t *some_bitmap(size_t n, int density) {
    if (density == 4) return NULL;
    uint64_t *bitmap = malloc((n + 63) / 64 * 8);
    for (size_t i = 0; i < (n + 63) / 64; i++)
        bitmap[i] = density == 0   ? any() & any() & any() & any() & any()
                    : density == 1 ? any()
                    : density == 2 ? 0
                                   : ~(uint64_t)0;
    return bitmap;
}

static int is_set(const uint64_t *bitmap, size_t i) { return !bitmap || (bitmap[i / 64] >> i % 64 & 1); }

static void check_rows(const hm_variant *variant, size_t n, int words, int density) {
    uint64_t query[HM_MAX_LONG_WORDS];
    for (int w = 0; w < words; w++) query[w] = any();
    uint64_t *rows = some_rows(n, words, query), *bitmap = some_bitmap(n, density);
    uint16_t *distances = malloc(n * sizeof *distances);
    variant->distances(query, rows, n, words, distances);
    for (size_t i = 0; i < n; i++)
        expect(distances[i] == bits_that_differ(query, rows + i * (size_t)words, words), variant->name, "distances", n,
               words);
    if (words <= HM_MAX_SHORT_WORDS) {
        uint64_t *hits = malloc((n + HM_HIT_PADDING) * 8);
        for (int threshold = 0; threshold <= 64 * words; threshold += 9) {
            size_t found = variant->within(query, rows, n, words, bitmap, threshold, 1000, hits), at = 0;
            for (size_t i = 0; i < n; i++) {
                if (!is_set(bitmap, i) || distances[i] > threshold) continue;
                expect(at < found && hits[at] == hm_hit(distances[i], 1000 + i), variant->name, "within", n, words);
                at++;
            }
            expect(at == found, variant->name, "number within", n, words);
        }
        free(hits);
    }
    free(distances);
    free(bitmap);
    free(rows);
}

static void check_weighted(const hm_variant *variant, int words) {
    uint64_t *query = malloc(8 * (size_t)words), *row = malloc(8 * (size_t)words), *weights = malloc(8 * (size_t)words);
    uint64_t plain = 0, weighted = 0;
    for (int w = 0; w < words; w++) {
        query[w] = any(), row[w] = w % 3 ? any() : ~query[w], weights[w] = any() % 1001;
        plain += bits_that_differ(query + w, row + w, 1);
        weighted += weights[w] * bits_that_differ(query + w, row + w, 1);
    }
    expect(variant->weighted(query, row, words, NULL) == plain, variant->name, "plain long distance", 1, words);
    expect(variant->weighted(query, row, words, weights) == weighted, variant->name, "weighted long distance", 1,
           words);
    free(weights), free(row), free(query);
}

/* Whole searches must find what the portable variant finds on one thread. */
static void check_searches(const hm_variant *variant, size_t n, int words, int density, int query_count, int threads) {
    int long_words = 1 + (int)(any() % 9);
    uint64_t shorts[16][HM_MAX_SHORT_WORDS], longs[16][16], weights[16];
    for (int i = 0; i < 16 * 16; i++) longs[i / 16][i % 16] = any(), weights[i % 16] = any() % 3;
    for (int i = 0; i < 16; i++)
        for (int w = 0; w < words; w++) /* 3 to 5 so much alike that most bits agree in all three */
            shorts[i][w] = i / 3 == 1 ? shorts[0][w] ^ (any() & any() & any())
                           : i % 2    ? shorts[0][w] ^ (any() & any())
                                      : any();
    uint64_t *short_codes = some_rows(n, words, shorts[0]), *long_codes = some_rows(n, long_words, longs[0]);
    uint64_t *keys = malloc(n * 8), *bitmap = some_bitmap(n, density);
    for (size_t i = 0; i < n; i++) keys[i] = any() % 100;
    hm_codes codes = {short_codes, long_codes, keys, bitmap, n, words, long_words};
    hm_query queries[16];
    for (int i = 0; i < query_count; i++)
        queries[i] = (hm_query){shorts[i], longs[i], weights, 1 + any() % 9, 1 + any() % 200};
    int (*searches[])(const hm_variant *, const hm_codes *, const hm_query *, size_t, int,
                      hm_found *) = {hm_two_phase, hm_candidates, hm_exhaustive};
    for (int s = 0; s < 3; s++) {
        hm_found found[16], expected[16];
        expect(!searches[s](variant, &codes, queries, (size_t)query_count, threads, found), variant->name, "memory", n,
               words);
        expect(!searches[s](&hm_portable, &codes, queries, (size_t)query_count, 1, expected), "portable", "memory", n,
               words);
        for (int i = 0; i < query_count; i++) {
            expect(found[i].rows == expected[i].rows, variant->name, "number of rows", n, words);
            expect(!memcmp(found[i].row, expected[i].row, found[i].rows * sizeof(int64_t)), variant->name, "rows", n,
                   words);
            expect(!memcmp(found[i].long_distance, expected[i].long_distance, found[i].rows * sizeof(uint32_t)),
                   variant->name, "long distances", n, words);
            expect(!memcmp(found[i].histogram, expected[i].histogram, sizeof expected[i].histogram), variant->name,
                   "histogram", n, words);
        }
        hm_found_free(found, (size_t)query_count);
        hm_found_free(expected, (size_t)query_count);
    }
    free(bitmap), free(keys), free(long_codes), free(short_codes);
}

/* Keys come, move to other slots and go; holder[k] is the slot of key k, or -1. Slots 2k and 2k + 1 have key k. */
static void check_key_table(uint64_t step, int64_t n) {
    kt_table table = {0};
    uint64_t *keys = malloc((size_t)n * 16);
    int64_t *holder = malloc((size_t)n * sizeof *holder), had;
    for (int64_t k = 0; k < n; k++) keys[2 * k] = keys[2 * k + 1] = (uint64_t)k * step - 1, holder[k] = -1;
    for (int64_t i = 0; i < 40 * n; i++) {
        int64_t k = (int64_t)(any() % (uint64_t)n), slot = 2 * k + (int64_t)(any() % 2);
        if (any() % 8 < (i < 20 * n ? 5u : 3u)) { /* it grows first and empties later */
            expect(kt_put(&table, keys, &slot, 1, &had) == 1 && had == holder[k], "key table", "put", (size_t)n, 1);
            holder[k] = slot;
        } else {
            kt_remove(&table, keys, &keys[slot], 1, &had);
            expect(had == holder[k], "key table", "remove", (size_t)n, 1);
            holder[k] = -1;
        }
        k = (int64_t)(any() % (uint64_t)n);
        kt_find(&table, keys, &keys[2 * k], 1, &had);
        expect(had == holder[k], "key table", "find", (size_t)n, 1);
    }
    kt_free(&table);
    free(holder), free(keys);
}

static int in_bitmap(const uint64_t *bitmap, size_t i) { return (int)(bitmap[i / 64] >> i % 64 & 1); }

/* Conditions on columns: bit i of a bitmap against the definition, and no bit past the last row. */
static void check_masks(const mk_variant *variant, size_t n) {
    double *prices = malloc(n * sizeof *prices);
    int64_t *times = malloc(n * sizeof *times);
    uint8_t *bytes = malloc(n), *table = malloc(301);
    uint16_t *shorts = malloc(n * sizeof *shorts);
    uint32_t *numbers = malloc(n * sizeof *numbers);
    int32_t *lat = malloc(n * sizeof *lat), *lon = malloc(n * sizeof *lon);
    uint64_t *out[5];
    for (int k = 0; k < 5; k++) out[k] = calloc(MK_WORDS(n), 8);
    size_t few = any() % 2 ? 8 : 100;
    for (size_t i = 0; i < 300; i++) table[i] = any() % 300 < few;
    uint32_t wanted[MK_MAX_COMPARED];
    int count = 0;
    for (uint32_t i = 0; i < 300; i++)
        if (table[i] && count++ < MK_MAX_COMPARED) wanted[count - 1] = i;
    table[300] = 0;
    mk_set set8 = {table, 256, NULL, 0}, set = {table, 301, count && count <= MK_MAX_COMPARED ? wanted : NULL, count};
    for (size_t i = 0; i < n; i++) {
        prices[i] = any() % 9 ? (double)(any() % 100) : 0.0 / 0.0;
        times[i] = (int64_t)(any() % 100) - 50;
        bytes[i] = (uint8_t)any(), shorts[i] = (uint16_t)(any() % 301), numbers[i] = (uint32_t)(any() % 310);
        lat[i] = any() % 9 ? (int32_t)(any() % 1800000001) - 900000000 : INT32_MIN;
        lon[i] = (int32_t)(any() % 3600000001u - 1800000000u);
    }
    mk_box all = {-900000000, 900000000, {-1800000000, 0}, {1800000000, -1}};
    mk_box some = {-100000000, 200000000, {-300000000, 400000000}, {300000000, 500000000}};
    mk_circle circle = {all, some, 0, 0, 1, 0.5, 1e-9};
    variant->within_f64(prices, n, 10, 60, out[0]);
    variant->within_i64(times, n, -20, 20, out[1]);
    variant->member_u8(bytes, n, set8, out[2]);
    variant->member_u16(shorts, n, set, out[3]);
    variant->member_u32(numbers, n, set, out[4]);
    uint64_t *unsure = calloc(MK_WORDS(n), 8), *near = calloc(MK_WORDS(n), 8);
    variant->near(lat, lon, n, &circle, near, unsure);
    for (size_t i = 0; i < n; i++) {
        int price = prices[i] >= 10 && prices[i] <= 60;
        expect(in_bitmap(out[0], i) == price, variant->name, "numbers within", n, 0);
        expect(in_bitmap(out[1], i) == (times[i] >= -20 && times[i] <= 20), variant->name, "times within", n, 0);
        expect(in_bitmap(out[2], i) == table[bytes[i]], variant->name, "bytes of a set", n, 0);
        expect(in_bitmap(out[3], i) == (shorts[i] < 300 && table[shorts[i]]), variant->name, "numbers of a set", n, 0);
        expect(in_bitmap(out[4], i) == (numbers[i] < 300 && table[numbers[i]]), variant->name, "set of 32 bits", n, 0);
        /* within 90 degrees of (0, 0): half the globe */
        int half = lat[i] != INT32_MIN && lon[i] > -900000000 && lon[i] < 900000000;
        expect(in_bitmap(near, i) == half || in_bitmap(unsure, i), variant->name, "places", n, 0);
    }
    for (size_t i = n; i % 64; i++)
        for (int k = 0; k < 5; k++) expect(!in_bitmap(out[k], i), variant->name, "bits past the last row", n, 0);
    for (int k = 0; k < 5; k++) free(out[k]);
    free(unsure), free(near), free(lat), free(lon), free(numbers), free(shorts), free(bytes), free(table);
    free(times), free(prices);
}

/* A run with sections of just the size that they need. */
typedef struct {
    uint32_t *term_starts, *posting_starts, *postings;
    uint8_t *bytes;
    wi_counts counts;
} sections;

static sections some_sections(wi_counts counts) {
    return (sections){malloc(4 * (counts.terms + 1)), malloc(4 * (counts.terms + 1)), malloc(4 * counts.postings + 1),
                      malloc(counts.term_bytes + 1), counts};
}

static void free_sections(sections *run) {
    free(run->term_starts), free(run->posting_starts), free(run->postings), free(run->bytes);
}

static wi_run opened(const sections *run) {
    return (wi_run){run->term_starts, run->posting_starts, run->postings, run->bytes, run->counts.terms};
}

enum { TEXT = 24 };

/* Letters of two cases, digits, separators, and bytes of a character that is not ASCII. */
static sections some_run(wi_collector *collector, uint8_t (*texts)[TEXT], const uint32_t *slots, size_t n) {
    uint8_t *data = malloc(n * TEXT + 1);
    int64_t *bounds = malloc((n + 1) * sizeof *bounds);
    uint32_t *entries = malloc((n + 1) * sizeof *entries);
    for (size_t i = 0; i <= n; i++) bounds[i] = (int64_t)(i * TEXT);
    for (size_t i = 0; i < n; i++) {
        entries[i] = (uint32_t)(collector->entries + i);
        for (int j = 0; j < TEXT; j++) data[i * TEXT + (size_t)j] = (uint8_t)"aaaabbA01 .\xc3"[any() % 12];
        memcpy(texts[i], data + i * TEXT, TEXT);
    }
    expect(!wi_add(collector, data, bounds, n), "word index", "add", n, 1);
    uint64_t pieces = collector->pieces.used - collector->pieces_folded;
    uint8_t *lines = malloc(4 * pieces + 1);
    for (uint64_t i = 0; i < pieces; i++) memcpy(lines + 4 * i, "u v\n", 4);
    expect(!pieces || wi_fold(collector, lines, 4 * pieces) == (int64_t)pieces, "word index", "fold", n, 1);
    wi_counts counts;
    expect(!wi_count(collector, entries, n, &counts), "word index", "count", n, 1);
    sections run = some_sections(counts);
    wi_write(collector, entries, slots, n, run.term_starts, run.bytes, run.posting_starts, run.postings);
    free(lines), free(entries), free(bounds), free(data);
    return run;
}

/* Whether a text has a word that begins with a letter; a piece has the words u and v. */
static int has_beginning(const uint8_t *text, uint8_t letter) {
    for (int start = 0; start < TEXT;) {
        int end = start, piece = 0;
        for (; end < TEXT && text[end] != ' ' && text[end] != '.'; end++) piece |= text[end] >= 0x80;
        if (end > start && (piece ? letter == 'u' || letter == 'v' : (text[start] | 0x20) == (letter | 0x20))) return 1;
        start = end + 1;
    }
    return 0;
}

static void check_beginnings(const wi_run *run, uint8_t (*texts)[TEXT], const int *shown, size_t n) {
    uint64_t *bits = malloc((n / 64 + 1) * 8), *marks = calloc(n / 64 + 1, 8);
    uint32_t *cover = malloc(4 * n + 4), ranges[4];
    for (size_t i = 0; i < n; i++) cover[i] = (uint32_t)i;
    for (const char *letter = "abuv01x"; *letter; letter++) {
        wi_find(run, (const uint8_t *)letter, 1, &ranges[0], &ranges[1]);
        wi_find(run, (const uint8_t *)"a", 1, &ranges[2], &ranges[3]);
        memset(bits, 0, (n / 64 + 1) * 8);
        wi_select(run->postings + ranges[0], ranges[1] - ranges[0], 0, bits);
        for (size_t i = 0; i < n; i++)
            expect(is_set(bits, i) == (shown[i] && has_beginning(texts[i], (uint8_t)*letter)), "word index", "select",
                   n, 1);
        expect(!wi_match(run->postings, ranges, 2, cover, n, bits, marks), "word index", "memory", n, 1);
        for (size_t i = 0; i < n; i++)
            expect(is_set(bits, i) ==
                       (shown[i] && has_beginning(texts[i], (uint8_t)*letter) && has_beginning(texts[i], 'a')),
                   "word index", "match", n, 1);
    }
    free(cover), free(marks), free(bits);
}

static void check_word_index(size_t n) {
    wi_collector collector = {.terms.seed = any(), .pieces.seed = any()};
    uint8_t (*texts)[TEXT] = malloc(n * TEXT + 1), (*newer)[TEXT] = malloc(n * TEXT + 1), *owners = malloc(n + 1);
    uint32_t *slots = malloc(4 * n + 4);
    int *shown = malloc((n + 1) * sizeof *shown);
    uint64_t *odd = malloc((n / 64 + 1) * 8);
    for (size_t i = 0; i < n; i++) slots[i] = (uint32_t)i, shown[i] = 1;
    sections runs[2] = {some_run(&collector, texts, slots, n), some_run(&collector, newer, slots, n)};
    wi_run both[2] = {opened(&runs[0]), opened(&runs[1])};
    check_beginnings(&both[0], texts, shown, n);
    check_beginnings(&both[1], newer, shown, n);
    /* Of even slots the older entry, of odd ones the newer, but of every seventh none. */
    memset(owners, 0, n + 1);
    for (size_t word = 0; word <= n / 64; word++) odd[word] = 0xaaaaaaaaaaaaaaaau;
    wi_own(odd, n / 64 + 1, 0, 0, 1, owners, n);
    for (size_t i = 0; i < n; i++) {
        expect(owners[i] == i % 2, "word index", "own", n, 1);
        if (i % 7 == 0) owners[i] = WI_NO_OWNER, shown[i] = 0;
        if (i % 2) memcpy(texts[i], newer[i], TEXT);
    }
    sections merged = some_sections((wi_counts){runs[0].counts.terms + runs[1].counts.terms,
                                                runs[0].counts.term_bytes + runs[1].counts.term_bytes,
                                                runs[0].counts.postings + runs[1].counts.postings});
    expect(!wi_merge(both, 2, owners, n, merged.term_starts, merged.bytes, merged.posting_starts, merged.postings,
                     &merged.counts),
           "word index", "memory", n, 1);
    wi_run one = opened(&merged);
    check_beginnings(&one, texts, shown, n);
    free_sections(&merged), free_sections(&runs[0]), free_sections(&runs[1]);
    free(odd), free(shown), free(slots), free(owners), free(newer), free(texts);
    wi_clear(&collector);
}

int main(void) {
    static const size_t sizes[] = {0, 1, 3, 7, 8, 9, 63, 64, 65, 127, 129, 511, 512, 513, 1000, 2048, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_word_index(sizes[i]);
    for (int64_t n = 1; n < 2000; n = 3 * n + 1) check_key_table(1, n), check_key_table((uint64_t)1 << 48, n);
    for (int v = 0; mk_variants[v]; v++)
        for (size_t i = 0; mk_variants[v]->runs_here() && i < sizeof sizes / sizeof *sizes; i++)
            check_masks(mk_variants[v], sizes[i]);
    for (int v = 0; hm_variants[v]; v++) {
        const hm_variant *variant = hm_variants[v];
        if (!variant->runs_here()) continue;
        for (int words = 1; words <= HM_MAX_LONG_WORDS; words += words < 9 ? 1 : 17) check_weighted(variant, words);
        for (int words = 1; words <= 6; words++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                for (int density = 0; density <= 4; density += 2) check_rows(variant, sizes[i], words, density);
        for (int words = 1; words <= 4; words++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                for (int density = 0; density <= 4; density++)
                    check_searches(variant, sizes[i], words, density, any() % 2 ? 1 : 9, 1);
        check_searches(variant, 140001, 4, 4, 9, 3);
        check_searches(variant, 140001, 1, 0, 2, 2);
        printf("%s\n", variant->name);
    }
    return 0;
}
