/* What was collected becomes a run: its words in order, and the slots of each. */
#include "word_index.h"

#include <string.h>

typedef struct {
    uint64_t prefix; /* eight bytes of the word, the first in the top bits, zeros behind its end */
    uint32_t number;
} item;

static void load_prefixes(const wi_words *words, item *items, size_t n, size_t depth) {
    for (size_t i = 0; i < n; i++) {
        const wi_word *word = &words->words[items[i].number];
        uint64_t prefix = 0;
        for (size_t at = depth; at < depth + 8; at++)
            prefix = prefix << 8 | (at < word->length ? words->bytes[word->start + at] : 0);
        items[i].prefix = prefix;
    }
}

static void swap(item *a, item *b) {
    item kept = *a;
    *a = *b;
    *b = kept;
}

/* Quicksort in three parts by eight bytes at a time. No word holds a byte of 0, so different words differ at some
 * depth, and `depth` is bounded by their length. */
static void sort_words(const wi_words *words, item *items, size_t n, size_t depth, uint64_t *random) {
    while (n > 1) {
        *random = *random * 6364136223846793005u + 1442695040888963407u;
        uint64_t pivot = items[(*random >> 33) % n].prefix;
        size_t below = 0, at = 0, above = n;
        while (at < above) {
            if (items[at].prefix < pivot)
                swap(&items[below++], &items[at++]);
            else if (items[at].prefix > pivot)
                swap(&items[at], &items[--above]);
            else
                at++;
        }
        if (above - below > 1) {
            load_prefixes(words, items + below, above - below, depth + 8);
            sort_words(words, items + below, above - below, depth + 8, random);
        }
        /* The smaller part by a call, the larger by going on, so that the stack stays small. */
        if (below < n - above) {
            sort_words(words, items, below, depth, random);
            items += above;
            n -= above;
        } else {
            sort_words(words, items + above, n - above, depth, random);
            n = below;
        }
    }
}

static void count_term(wi_collector *collector, uint32_t term, uint32_t mark) {
    wi_word *word = &collector->terms.words[term];
    if (word->mark == mark) return;
    word->mark = mark;
    word->count++;
}

static void put_posting(wi_collector *collector, uint32_t term, uint32_t mark, uint32_t slot, uint32_t *postings) {
    wi_word *word = &collector->terms.words[term];
    if (word->mark == mark) return;
    word->mark = mark;
    postings[word->count++] = slot;
}

/* The terms of a token: one, or those of a piece. */
static size_t terms_of(const wi_collector *collector, const uint32_t *token, const uint32_t **terms) {
    if (!(*token & WI_PIECE)) {
        *terms = token;
        return 1;
    }
    uint32_t piece = *token & ~WI_PIECE;
    uint64_t start = piece ? collector->folded_ends[piece - 1] : 0;
    *terms = collector->folded + start;
    return collector->folded_ends[piece] - start;
}

static void clear_counts(wi_words *words) {
    for (uint64_t number = 0; number < words->used; number++)
        words->words[number].mark = words->words[number].count = 0;
}

static void clear_marks(wi_words *words) {
    for (uint64_t number = 0; number < words->used; number++) words->words[number].mark = 0;
}

static void forget_order(wi_collector *collector) {
    wi_release(collector->order, collector->order_room * sizeof(uint32_t));
    collector->order = NULL;
}

int wi_count(wi_collector *collector, const uint32_t *entries, size_t n, wi_counts *out) {
    wi_words *words = &collector->terms;
    uint64_t room = words->used ? words->used : 1;
    forget_order(collector);
    uint32_t *order = wi_resized(NULL, 0, room * sizeof *order);
    item *items = wi_resized(NULL, 0, room * sizeof *items);
    if (!order || !items) {
        wi_release(order, room * sizeof *order);
        wi_release(items, room * sizeof *items);
        return WI_NO_MEMORY;
    }
    clear_counts(words);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = entries[i] ? collector->token_ends[entries[i] - 1] : 0;
        for (; at < collector->token_ends[entries[i]]; at++) {
            const uint32_t *terms;
            size_t count = terms_of(collector, &collector->tokens[at], &terms);
            for (size_t j = 0; j < count; j++) count_term(collector, terms[j], (uint32_t)i + 1);
        }
    }
    *out = (wi_counts){0};
    for (uint64_t term = 0; term < words->used; term++) {
        if (!words->words[term].count) continue;
        items[out->terms++].number = (uint32_t)term;
        out->term_bytes += words->words[term].length;
        out->postings += words->words[term].count;
    }
    uint64_t random = words->seed;
    load_prefixes(words, items, out->terms, 0);
    sort_words(words, items, out->terms, 0, &random);
    for (uint64_t i = 0; i < out->terms; i++) order[i] = items[i].number;
    wi_release(items, room * sizeof *items);
    collector->order = order;
    collector->order_room = room;
    collector->counted_terms = out->terms;
    return 0;
}

void wi_write(wi_collector *collector, const uint32_t *entries, const uint32_t *slots, size_t n, uint32_t *term_starts,
              uint8_t *bytes, uint32_t *posting_starts, uint32_t *postings) {
    wi_words *words = &collector->terms;
    uint32_t byte = 0, posting = 0;
    for (uint64_t i = 0; i < collector->counted_terms; i++) {
        wi_word *word = &words->words[collector->order[i]];
        term_starts[i] = byte;
        posting_starts[i] = posting;
        memcpy(bytes + byte, words->bytes + word->start, word->length);
        byte += word->length;
        /* From here on a term's count is where its next posting goes. */
        uint32_t count = word->count;
        word->count = posting;
        posting += count;
    }
    term_starts[collector->counted_terms] = byte;
    posting_starts[collector->counted_terms] = posting;
    clear_marks(words);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = entries[i] ? collector->token_ends[entries[i] - 1] : 0;
        for (; at < collector->token_ends[entries[i]]; at++) {
            const uint32_t *terms;
            size_t count = terms_of(collector, &collector->tokens[at], &terms);
            for (size_t j = 0; j < count; j++) put_posting(collector, terms[j], (uint32_t)i + 1, slots[i], postings);
        }
    }
    forget_order(collector);
}
