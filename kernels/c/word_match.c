/* Words looked up in a run, and their postings as bits. */
#include "word_index.h"

#include <stdlib.h>
#include <string.h>

/* How a word compares with a prefix: 0 if it begins with it. */
static int compare(const wi_run *run, size_t term, const uint8_t *prefix, size_t length) {
    size_t own = run->term_starts[term + 1] - run->term_starts[term];
    int order = memcmp(run->bytes + run->term_starts[term], prefix, own < length ? own : length);
    return order ? order : own < length ? -1 : 0;
}

/* The first word that is above the prefix, or that begins with it if `at_least`. */
static size_t boundary(const wi_run *run, const uint8_t *prefix, size_t length, int at_least) {
    size_t low = 0, high = run->terms;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare(run, middle, prefix, length);
        if (order < 0 || (order == 0 && !at_least))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void wi_find(const wi_run *run, const uint8_t *prefix, size_t length, uint32_t *first, uint32_t *last) {
    *first = run->posting_starts[boundary(run, prefix, length, 1)];
    *last = run->posting_starts[boundary(run, prefix, length, 0)];
}

static int is_set(const uint64_t *bits, uint32_t slot) { return bits[slot >> 6] >> (slot & 63) & 1; }

static void set(uint64_t *bits, uint32_t slot) { bits[slot >> 6] |= (uint64_t)1 << (slot & 63); }

static void unset(uint64_t *bits, uint32_t slot) { bits[slot >> 6] &= ~((uint64_t)1 << (slot & 63)); }

void wi_select(const uint32_t *slots, size_t n, uint32_t base, uint64_t *bits) {
    for (size_t i = 0; i < n; i++) set(bits, slots[i] - base);
}

/* Those of `slots` that are among some postings, each once, into `kept`; returns how many. */
static size_t intersect(const uint32_t *slots, size_t n, const uint32_t *postings, size_t count, uint32_t *kept,
                        uint64_t *marks) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) set(marks, slots[i]);
    for (size_t i = 0; i < count; i++) {
        if (!is_set(marks, postings[i])) continue;
        unset(marks, postings[i]);
        kept[found++] = postings[i];
    }
    for (size_t i = 0; i < n; i++) unset(marks, slots[i]);
    return found;
}

int wi_match(const uint32_t *postings, const uint32_t *ranges, size_t words, const uint32_t *cover, size_t covered,
             uint64_t *bits, uint64_t *marks) {
    size_t found = ranges[1] - ranges[0];
    const uint32_t *slots = postings + ranges[0];
    uint32_t *buffers = malloc((2 * found + 1) * sizeof *buffers), *kept = buffers, *spare = buffers + found;
    if (!buffers) return WI_NO_MEMORY;
    for (size_t word = 1; word < words && found; word++) {
        const uint32_t *range = ranges + 2 * word;
        found = intersect(slots, found, postings + range[0], range[1] - range[0], kept, marks);
        slots = kept;
        kept = spare;
        spare = (uint32_t *)slots;
    }
    for (size_t i = 0; i < covered; i++) unset(bits, cover[i]);
    for (size_t i = 0; i < found; i++) set(bits, slots[i]);
    free(buffers);
    return 0;
}
