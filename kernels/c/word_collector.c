/* Texts become words, and words become a run. ASCII is folded here; what holds other characters is kept as a piece, and
 * the caller folds each different piece once. */
#define _GNU_SOURCE
#include "word_index.h"

#include <string.h>
#include <sys/mman.h>

#define EMPTY UINT32_MAX
#define MIN_CAPACITY 1024

/* What a byte becomes: a letter its lower case, a digit and a byte of another character itself, all else 0. */
static uint8_t folded_byte(uint8_t byte) {
    if (byte >= 'A' && byte <= 'Z') return byte | 0x20;
    if ((byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte >= 0x80) return byte;
    return 0;
}

static void fill_folds(uint8_t *folds) {
    for (int byte = 0; byte < 256; byte++) folds[byte] = folded_byte((uint8_t)byte);
}

/* Pages of their own, zeros at first: what is freed goes back to the system at once, and on Linux growing copies
 * nothing. With malloc a shard kept 30 MB of what it had collected. */
void *wi_resized(void *memory, size_t bytes, size_t larger) {
#ifdef __linux__
    if (memory) {
        void *moved = mremap(memory, bytes, larger, MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
#endif
    void *fresh = mmap(NULL, larger, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED) return NULL;
    if (memory) {
        memcpy(fresh, memory, bytes);
        munmap(memory, bytes);
    }
    return fresh;
}

void wi_release(void *memory, size_t bytes) {
    if (memory) munmap(memory, bytes);
}

/* Let an array have room for `needed` items: by half more each time, so that growth costs little. */
static int make_room(void **items, uint64_t *room, uint64_t needed, size_t item_bytes) {
    if (needed <= *room) return 0;
    uint64_t larger = needed + needed / 2 + 1024;
    void *grown = wi_resized(*items, *room * item_bytes, larger * item_bytes);
    if (!grown) return WI_NO_MEMORY;
    *items = grown;
    *room = larger;
    return 0;
}

static uint64_t mixed(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)(a ^ 0x9E3779B97F4A7C15u) * (b ^ 0xE7037ED1A0B428DBu);
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Seeded, so that nobody can write titles whose words all collide. */
static uint32_t hash_of(const uint8_t *bytes, size_t length, uint64_t seed) {
    uint64_t hash = seed ^ length, chunk;
    for (; length >= 8; length -= 8, bytes += 8) {
        memcpy(&chunk, bytes, 8);
        hash = mixed(hash, chunk);
    }
    chunk = 0;
    memcpy(&chunk, bytes, length);
    hash = mixed(hash, chunk);
    return (uint32_t)(hash >> 32);
}

static int grow_table(wi_words *words) {
    uint64_t capacity = words->capacity ? 2 * words->capacity : MIN_CAPACITY;
    uint32_t *table = wi_resized(NULL, 0, capacity * sizeof *table);
    if (!table) return WI_NO_MEMORY;
    memset(table, 0xff, capacity * sizeof *table);
    for (uint64_t number = 0; number < words->used; number++) {
        uint64_t position = words->words[number].hash & (capacity - 1);
        while (table[position] != EMPTY) position = (position + 1) & (capacity - 1);
        table[position] = (uint32_t)number;
    }
    wi_release(words->table, words->capacity * sizeof *table);
    words->table = table;
    words->capacity = capacity;
    return 0;
}

/* Let there be room for one word more of a length. */
static int make_room_for_word(wi_words *words, size_t length) {
    if (words->bytes_used + length >= EMPTY || words->used >= WI_PIECE - 1) return WI_NO_MEMORY;
    if (make_room((void **)&words->bytes, &words->bytes_room, words->bytes_used + length, 1)) return WI_NO_MEMORY;
    if (make_room((void **)&words->words, &words->room, words->used + 1, sizeof(wi_word))) return WI_NO_MEMORY;
    return 2 * words->used < words->capacity ? 0 : grow_table(words);
}

/* The number of a word, new if need be; there is room for one. */
static uint32_t number_of(wi_words *words, const uint8_t *bytes, size_t length, uint32_t hash) {
    uint64_t position = hash & (words->capacity - 1);
    for (; words->table[position] != EMPTY; position = (position + 1) & (words->capacity - 1)) {
        const wi_word *known = &words->words[words->table[position]];
        if (known->hash == hash && known->length == length && !memcmp(words->bytes + known->start, bytes, length))
            return words->table[position];
    }
    words->words[words->used] = (wi_word){(uint32_t)words->bytes_used, (uint32_t)length, hash, 0, 0};
    memcpy(words->bytes + words->bytes_used, bytes, length);
    words->bytes_used += length;
    words->table[position] = (uint32_t)words->used;
    return (uint32_t)words->used++;
}

/* Words that were read but not looked up: their memory is requested together, so that the cache misses overlap. */
typedef struct {
    const uint8_t *bytes;
    uint64_t token; /* where its number goes */
    uint32_t length, hash;
    uint8_t is_piece, folded[WI_MAX_WORD];
} pending;

#define PENDING 16

static wi_words *words_of(wi_collector *collector, const pending *word) {
    return word->is_piece ? &collector->pieces : &collector->terms;
}

static int look_up(wi_collector *collector, pending *words, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const wi_words *among = words_of(collector, &words[i]);
        if (!among->capacity) continue;
        uint32_t number = among->table[words[i].hash & (among->capacity - 1)];
        if (number != EMPTY) __builtin_prefetch(&among->words[number]);
    }
    for (size_t i = 0; i < n; i++) {
        wi_words *among = words_of(collector, &words[i]);
        if (make_room_for_word(among, words[i].length)) return WI_NO_MEMORY;
        uint32_t number = number_of(among, words[i].bytes, words[i].length, words[i].hash);
        collector->tokens[words[i].token] = number | (words[i].is_piece ? WI_PIECE : 0);
    }
    return 0;
}

/* Take note of a run of bytes none of which folds to 0. */
static void note(wi_collector *collector, pending *word, const uint8_t *start, size_t length, int is_piece,
                 const uint8_t *folds) {
    word->bytes = start;
    word->is_piece = (uint8_t)is_piece;
    if (!is_piece) {
        if (length > WI_MAX_WORD) length = WI_MAX_WORD;
        for (size_t i = 0; i < length; i++) word->folded[i] = folds[start[i]];
        word->bytes = word->folded;
    }
    const wi_words *among = words_of(collector, word);
    word->length = (uint32_t)length;
    word->hash = hash_of(word->bytes, length, among->seed);
    word->token = collector->tokens_used++;
    if (among->capacity) __builtin_prefetch(&among->table[word->hash & (among->capacity - 1)]);
}

static int add_text(wi_collector *collector, const uint8_t *at, const uint8_t *end, const uint8_t *folds,
                    pending *words, size_t *n) {
    while (1) {
        while (at < end && !folds[*at]) at++;
        if (at == end) return 0;
        const uint8_t *start = at;
        uint8_t every = 0;
        for (; at < end && folds[*at]; at++) every |= *at;
        if (make_room((void **)&collector->tokens, &collector->tokens_room, collector->tokens_used + 1, 4))
            return WI_NO_MEMORY;
        note(collector, &words[(*n)++], start, (size_t)(at - start), every >= 0x80, folds);
        if (*n < PENDING) continue;
        if (look_up(collector, words, *n)) return WI_NO_MEMORY;
        *n = 0;
    }
}

int wi_add(wi_collector *collector, const uint8_t *data, const int64_t *bounds, size_t n) {
    uint8_t folds[256];
    fill_folds(folds);
    uint64_t tokens_before = collector->tokens_used;
    if (collector->entries + n >= EMPTY ||
        make_room((void **)&collector->token_ends, &collector->entries_room, collector->entries + n, 8))
        return WI_NO_MEMORY;
    pending words[PENDING];
    size_t waiting = 0;
    int failed = 0;
    for (size_t i = 0; i < n && !failed; i++) {
        failed = add_text(collector, data + bounds[i], data + bounds[i + 1], folds, words, &waiting);
        collector->token_ends[collector->entries + i] = collector->tokens_used;
    }
    if (failed || look_up(collector, words, waiting)) {
        collector->tokens_used = tokens_before;
        return WI_NO_MEMORY;
    }
    collector->entries += n;
    return 0;
}

static int fold_piece(wi_collector *collector, const uint8_t *at, const uint8_t *end) {
    wi_words *terms = &collector->terms;
    while (at < end) {
        if (*at == ' ') {
            at++;
            continue;
        }
        const uint8_t *start = at;
        while (at < end && *at != ' ') at++;
        size_t length = (size_t)(at - start) < WI_MAX_WORD ? (size_t)(at - start) : WI_MAX_WORD;
        if (make_room_for_word(terms, length) ||
            make_room((void **)&collector->folded, &collector->folded_room, collector->folded_used + 1, 4))
            return WI_NO_MEMORY;
        collector->folded[collector->folded_used++] =
            number_of(terms, start, length, hash_of(start, length, terms->seed));
    }
    return 0;
}

int64_t wi_fold(wi_collector *collector, const uint8_t *lines, size_t size) {
    uint64_t pieces_before = collector->pieces_folded, folded_before = collector->folded_used;
    const uint8_t *at = lines, *end = lines + size;
    while (at < end) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        if (make_room((void **)&collector->folded_ends, &collector->pieces_room, collector->pieces_folded + 1, 8) ||
            fold_piece(collector, at, stop)) {
            collector->pieces_folded = pieces_before;
            collector->folded_used = folded_before;
            return WI_NO_MEMORY;
        }
        collector->folded_ends[collector->pieces_folded++] = collector->folded_used;
        at = stop + 1;
    }
    return (int64_t)(collector->pieces_folded - pieces_before);
}

/* --- memory */

static size_t bytes_of_words(const wi_words *words) {
    return words->bytes_room + words->room * sizeof(wi_word) + words->capacity * sizeof(uint32_t);
}

size_t wi_bytes(const wi_collector *collector) {
    return bytes_of_words(&collector->terms) + bytes_of_words(&collector->pieces) + 4 * collector->tokens_room +
           8 * collector->entries_room + 4 * collector->folded_room + 8 * collector->pieces_room;
}

static void clear_words(wi_words *words) {
    wi_release(words->bytes, words->bytes_room);
    wi_release(words->words, words->room * sizeof(wi_word));
    wi_release(words->table, words->capacity * sizeof(uint32_t));
    *words = (wi_words){.seed = words->seed};
}

void wi_clear(wi_collector *collector) {
    clear_words(&collector->terms);
    clear_words(&collector->pieces);
    wi_release(collector->tokens, 4 * collector->tokens_room);
    wi_release(collector->token_ends, 8 * collector->entries_room);
    wi_release(collector->folded, 4 * collector->folded_room);
    wi_release(collector->folded_ends, 8 * collector->pieces_room);
    wi_release(collector->order, collector->order_room * sizeof(uint32_t));
    *collector = (wi_collector){.terms = collector->terms, .pieces = collector->pieces};
}
