/* Several runs become one: their words in order, and of each word the postings that still count. */
#include "word_index.h"

#include <stdlib.h>
#include <string.h>

/* Where the merge is in a run. */
typedef struct {
    const wi_run *run;
    size_t term;
    uint64_t prefix; /* the first eight bytes of the word, zeros behind its end: decides most comparisons */
    const uint8_t *bytes;
    size_t length;
    uint8_t owner;
} cursor;

typedef struct {
    const uint8_t *owners;
    size_t slots;
    uint32_t *postings;
    size_t used;
    /* To bring the postings of a word in order: a bit per slot, all zeros in between, and room for fewer slots than one
     * in 32. */
    uint64_t *bits;
    uint32_t *spare;
    size_t spare_room;
} output;

static void load(cursor *at) {
    const uint32_t *starts = at->run->term_starts + at->term;
    at->bytes = at->run->bytes + starts[0];
    at->length = starts[1] - starts[0];
    at->prefix = 0;
    for (size_t i = 0; i < 8; i++) at->prefix = at->prefix << 8 | (i < at->length ? at->bytes[i] : 0);
}

static int compare(const cursor *a, const cursor *b) {
    if (a->prefix != b->prefix) return a->prefix < b->prefix ? -1 : 1;
    size_t shorter = a->length < b->length ? a->length : b->length;
    int order = shorter > 8 ? memcmp(a->bytes + 8, b->bytes + 8, shorter - 8) : 0;
    if (order) return order;
    return a->length == b->length ? 0 : a->length < b->length ? -1 : 1;
}

/* Whether a comes before b: by word, and among runs that have the same word by age. */
static int precedes(const cursor *a, const cursor *b) {
    int order = compare(a, b);
    return order ? order < 0 : a->owner < b->owner;
}

static void sift_down(cursor *heap, size_t count, size_t at) {
    cursor moved = heap[at];
    while (2 * at + 1 < count) {
        size_t child = 2 * at + 1;
        if (child + 1 < count && precedes(&heap[child + 1], &heap[child])) child++;
        if (!precedes(&heap[child], &moved)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* Append the postings of a cursor's word that its run owns. Whether all from `begin` on ascend. */
static int append(output *out, const cursor *at, size_t begin, int ascending) {
    const uint32_t *range = at->run->posting_starts + at->term, *postings = at->run->postings;
    size_t used = out->used;
    for (uint32_t i = range[0]; i < range[1]; i++) {
        uint32_t slot = postings[i];
        if (slot >= out->slots || out->owners[slot] != at->owner) continue;
        if (used > begin && out->postings[used - 1] > slot) ascending = 0;
        out->postings[used++] = slot;
    }
    out->used = used;
    return ascending;
}

static void sort_few(uint32_t *slots, size_t n) {
    for (size_t i = 1; i < n; i++) {
        uint32_t moved = slots[i];
        size_t at = i;
        for (; at && slots[at - 1] > moved; at--) slots[at] = slots[at - 1];
        slots[at] = moved;
    }
}

/* By bytes, the lowest first. */
static void sort_some(uint32_t *slots, size_t n, uint32_t *spare) {
    for (int shift = 0; shift < 32; shift += 8) {
        size_t starts[257] = {0};
        for (size_t i = 0; i < n; i++) starts[(slots[i] >> shift & 255) + 1]++;
        for (int byte = 0; byte < 256; byte++) starts[byte + 1] += starts[byte];
        for (size_t i = 0; i < n; i++) spare[starts[slots[i] >> shift & 255]++] = slots[i];
        uint32_t *swapped = slots;
        slots = spare;
        spare = swapped;
    }
}

/* More than one slot in 32: a pass over the bits of all slots costs less than sorting, and no memory. */
static void sort_many(uint32_t *slots, size_t n, uint64_t *bits) {
    uint32_t lowest = UINT32_MAX, highest = 0;
    for (size_t i = 0; i < n; i++) {
        bits[slots[i] >> 6] |= (uint64_t)1 << (slots[i] & 63);
        if (slots[i] < lowest) lowest = slots[i];
        if (slots[i] > highest) highest = slots[i];
    }
    for (uint32_t word = lowest >> 6; word <= highest >> 6; word++) {
        for (uint64_t left = bits[word]; left; left &= left - 1) *slots++ = word << 6 | (uint32_t)__builtin_ctzll(left);
        bits[word] = 0;
    }
}

static void sort_slots(output *out, uint32_t *slots, size_t n) {
    if (n <= 32)
        sort_few(slots, n);
    else if (n <= out->spare_room)
        sort_some(slots, n, out->spare);
    else
        sort_many(slots, n, out->bits);
}

int wi_merge(const wi_run *runs, size_t count, const uint8_t *owners, size_t slots, uint32_t *term_starts,
             uint8_t *bytes, uint32_t *posting_starts, uint32_t *postings, wi_counts *counts) {
    output out = {.owners = owners, .slots = slots, .postings = postings, .spare_room = slots / 32 + 32};
    cursor *heap = malloc((count ? count : 1) * sizeof *heap);
    out.bits = calloc(slots / 64 + 1, sizeof *out.bits);
    out.spare = malloc(out.spare_room * sizeof *out.spare);
    if (!heap || !out.bits || !out.spare) {
        free(heap), free(out.bits), free(out.spare);
        return WI_NO_MEMORY;
    }
    size_t live = 0;
    for (size_t i = 0; i < count; i++) {
        if (!runs[i].terms) continue;
        heap[live] = (cursor){.run = &runs[i], .owner = (uint8_t)i};
        load(&heap[live++]);
    }
    for (size_t i = live / 2; i-- > 0;) sift_down(heap, live, i);
    *counts = (wi_counts){0};
    while (live) {
        cursor word = heap[0];
        size_t begin = out.used;
        int ascending = 1;
        do {
            ascending = append(&out, &heap[0], begin, ascending);
            if (++heap[0].term < heap[0].run->terms)
                load(&heap[0]);
            else
                heap[0] = heap[--live];
            sift_down(heap, live, 0);
        } while (live && !compare(&heap[0], &word));
        if (out.used == begin) continue;
        if (!ascending) sort_slots(&out, postings + begin, out.used - begin);
        term_starts[counts->terms] = (uint32_t)counts->term_bytes;
        posting_starts[counts->terms++] = (uint32_t)begin;
        memcpy(bytes + counts->term_bytes, word.bytes, word.length);
        counts->term_bytes += word.length;
    }
    term_starts[counts->terms] = (uint32_t)counts->term_bytes;
    posting_starts[counts->terms] = (uint32_t)out.used;
    counts->postings = out.used;
    free(heap), free(out.bits), free(out.spare);
    return 0;
}

void wi_own(const uint64_t *bits, size_t words, uint64_t base, int inverted, uint8_t owner, uint8_t *owners, size_t n) {
    for (size_t word = 0; word < words; word++) {
        uint64_t left = inverted ? ~bits[word] : bits[word];
        uint64_t first = base + 64 * word;
        if (left == ~(uint64_t)0 && first + 64 <= n) {
            memset(owners + first, owner, 64);
            continue;
        }
        for (; left; left &= left - 1) {
            uint64_t slot = first + (uint64_t)__builtin_ctzll(left);
            if (slot < n) owners[slot] = owner;
        }
    }
}
