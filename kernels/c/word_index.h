/* An inverted index in immutable runs: which slots have a word, and which have a word that begins with something.
 *
 * A run has its words in ascending order of their bytes, so that those with one beginning are neighbours, and so are
 * their postings: the slots that have each word, 32 bits each, ascending within a word. Where the sections of a run lie
 * in memory is the caller's business. */
#ifndef LOOKALIKE_WORD_INDEX_H
#define LOOKALIKE_WORD_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define WI_MAX_WORD 256 /* bytes of a word that count */
#define WI_PIECE 0x80000000u
#define WI_NO_OWNER 255   /* in `owners`: no run of a merge has the slot's entry */
#define WI_NO_MEMORY (-1) /* what a call returns that found none; it has changed nothing */

/* Pages of their own, zeros at first; NULL if there are none. `memory` of `bytes` is moved to them if it is not NULL.
 */
void *wi_resized(void *memory, size_t bytes, size_t larger);

void wi_release(void *memory, size_t bytes);

/* Words, each once: open addressing over their numbers. */
typedef struct {
    uint32_t start, length, hash;
    uint32_t mark, count; /* while a run is made: the last entry that has it, and how many do */
} wi_word;

typedef struct {
    uint8_t *bytes;
    uint64_t bytes_used, bytes_room;
    wi_word *words;
    uint64_t used, room;
    uint32_t *table;
    uint64_t capacity; /* a power of two, or 0 */
    uint64_t seed;
} wi_words;

/* Texts by entry, as numbers of words, until they become a run. */
typedef struct {
    wi_words terms, pieces; /* pieces: runs of bytes that are not ASCII alone, which the caller folds to terms */
    uint32_t *tokens;       /* a term, or a piece with the top bit set */
    uint64_t tokens_used, tokens_room;
    uint64_t *token_ends; /* of each entry */
    uint64_t entries, entries_room;
    uint32_t *folded; /* the terms of all folded pieces, end to end */
    uint64_t folded_used, folded_room;
    uint64_t *folded_ends; /* of each folded piece */
    uint64_t pieces_folded, pieces_room;
    uint32_t *order; /* between wi_count and wi_write: the terms that were counted, in ascending order */
    uint64_t counted_terms, order_room;
} wi_collector;

/* Add n texts, text i being data[bounds[i]] to data[bounds[i + 1] - 1]; it becomes entry number `entries + i`. */
int wi_add(wi_collector *collector, const uint8_t *data, const int64_t *bounds, size_t n);

/* Say which terms the pieces are that were not folded yet, one line of words between spaces for each, in order. Returns
 * how many lines there were. */
int64_t wi_fold(wi_collector *collector, const uint8_t *lines, size_t size);

typedef struct {
    uint64_t terms, term_bytes, postings;
} wi_counts;

/* Count what a run of some entries holds, those of an ascending list of slots. All pieces are folded. */
int wi_count(wi_collector *collector, const uint32_t *entries, size_t n, wi_counts *counts);

/* Write the sections of the run that was counted. `term_starts` and `posting_starts` have one number more than there
 * are terms. */
void wi_write(wi_collector *collector, const uint32_t *entries, const uint32_t *slots, size_t n, uint32_t *term_starts,
              uint8_t *bytes, uint32_t *posting_starts, uint32_t *postings);

size_t wi_bytes(const wi_collector *collector);

/* Forget all entries and words. The seed stays. */
void wi_clear(wi_collector *collector);

typedef struct {
    const uint32_t *term_starts, *posting_starts, *postings;
    const uint8_t *bytes;
    size_t terms;
} wi_run;

/* The range of postings of all words that begin with the prefix. */
void wi_find(const wi_run *run, const uint8_t *prefix, size_t length, uint32_t *first, uint32_t *last);

/* Set the bit of each slot; bit 0 of word 0 is that of slot `base`. */
void wi_select(const uint32_t *slots, size_t n, uint32_t base, uint64_t *bits);

/* Let a bitmap over all slots say for each slot of `cover` whether it is in all of the ranges of postings, of which
 * there is one at least. `marks` is a bitmap as large, all zeros before and after. */
int wi_match(const uint32_t *postings, const uint32_t *ranges, size_t words, const uint32_t *cover, size_t covered,
             uint64_t *bits, uint64_t *marks);

/* Set the owner of each slot whose bit is set (or clear, if `inverted`); `base` is the slot of the first bit. */
void wi_own(const uint64_t *bits, size_t words, uint64_t base, int inverted, uint8_t owner, uint8_t *owners, size_t n);

/* Merge runs: of run i the postings of slots whose owner is i. The sections of `out` are large enough for all words and
 * postings of the runs. */
int wi_merge(const wi_run *runs, size_t count, const uint8_t *owners, size_t slots, uint32_t *term_starts,
             uint8_t *bytes, uint32_t *posting_starts, uint32_t *postings, wi_counts *out);

#endif
