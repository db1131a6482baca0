#include "masks.h"

#include <stdlib.h>
#include <string.h>

void mk_mark_below(const uint32_t *parents, size_t n, uint8_t *marks) {
    for (size_t node = 0; node < n; node++) marks[node] |= marks[parents[node]];
}

/* FNV-1a, then the bits above brought down. */
static uint64_t hash_of(const uint8_t *text, size_t length) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ text[i]) * 0x100000001B3u;
    return hash ^ hash >> 32;
}

void mk_hash_texts(const mk_texts *texts, uint16_t *out) {
    for (size_t i = 0; i < texts->count; i++) { /* 2^64 divided by the golden ratio: the top bits depend on all */
        uint64_t hash = hash_of(texts->data + texts->starts[i], (size_t)texts->lengths[i]);
        out[i] = (uint16_t)(hash * 0x9E3779B97F4A7C15u >> 48);
    }
}

/* Texts by their hash, at a load of at most a half. */
typedef struct {
    const mk_texts *texts;
    uint32_t *numbers; /* of a text, from 1 on; 0: none */
    size_t mask;
} text_table;

static int text_table_make(text_table *table, const mk_texts *texts) {
    size_t capacity = 2;
    while (capacity < 2 * texts->count) capacity *= 2;
    *table = (text_table){texts, calloc(capacity, sizeof *table->numbers), capacity - 1};
    if (!table->numbers) return -1;
    for (size_t i = 0; i < texts->count; i++) {
        size_t at = hash_of(texts->data + texts->starts[i], (size_t)texts->lengths[i]) & table->mask;
        while (table->numbers[at]) at = (at + 1) & table->mask;
        table->numbers[at] = (uint32_t)i + 1;
    }
    return 0;
}

static int text_table_holds(const text_table *table, const uint8_t *text, size_t length) {
    size_t at = hash_of(text, length) & table->mask;
    for (; table->numbers[at]; at = (at + 1) & table->mask) {
        size_t i = table->numbers[at] - 1;
        if ((size_t)table->texts->lengths[i] == length &&
            !memcmp(table->texts->data + table->texts->starts[i], text, length))
            return 1;
    }
    return 0;
}

/* The rows of a word of `where`, whose blobs are requested together, so that their cache misses overlap. */
static uint64_t second_ids_in_word(const mk_ids *ids, size_t first, uint64_t where, const text_table *table) {
    uint64_t met = 0;
    for (uint64_t bits = where; bits; bits &= bits - 1)
        __builtin_prefetch(&ids->words[ids->offsets[first + (size_t)__builtin_ctzll(bits)]]);
    for (uint64_t bits = where; bits; bits &= bits - 1) {
        int bit = __builtin_ctzll(bits);
        const uint32_t *blob = &ids->words[ids->offsets[first + (size_t)bit]];
        uint32_t length = *blob >> 16, start = length & MK_BEGINS_FIRST ? 0 : *blob & 0xFFFF;
        const uint8_t *text = (const uint8_t *)(blob + 1) + start;
        met |= (uint64_t)text_table_holds(table, text, length & ~MK_BEGINS_FIRST) << bit;
    }
    return met;
}

int mk_second_ids_where(const mk_ids *ids, size_t n, const mk_texts *wanted, const uint64_t *where, uint64_t *out) {
    text_table table;
    if (text_table_make(&table, wanted)) return -1;
    for (size_t word = 0; word < MK_WORDS(n); word++)
        out[word] = where[word] ? second_ids_in_word(ids, word * 64, where[word], &table) : 0;
    free(table.numbers);
    return 0;
}

const mk_variant *const mk_variants[] = {
    &mk_portable,
#if defined(__x86_64__)
    &mk_avx2,
    &mk_avx512,
#endif
    NULL,
};
