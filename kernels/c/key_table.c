/* Linear probing at a load of at most 0.8. A key's home position is its mixed bits scaled to the capacity, which may
 * therefore be any number and grow by a quarter. Removal shifts the rest of the run back: there are no tombstones. */
#include "key_table.h"

#include <sys/mman.h>
#include <unistd.h>

#define MIN_CAPACITY 16
#define BLOCK 32 /* keys whose memory is requested together, so that their cache misses overlap */

/* The keys of a shard share their top bits, which alone would decide the scaled position: the product brings the lower
 * bits up. The constant is 2^64 divided by the golden ratio, made odd (Knuth, volume 3, 6.4). */
static uint64_t home_of(const kt_table *table, uint64_t key) {
    return (uint64_t)((unsigned __int128)(key * 0x9E3779B97F4A7C15u) * table->capacity >> 64);
}

static uint64_t next_position(const kt_table *table, uint64_t position) {
    return position + 1 == table->capacity ? 0 : position + 1;
}

/* Where the key is, or else the empty position where it would go. There always is one: the load stays below 1. */
static uint64_t probe(const kt_table *table, const uint64_t *keys, uint64_t key) {
    uint64_t position = home_of(table, key);
    while (table->slots[position] != KT_EMPTY && keys[table->slots[position]] != key)
        position = next_position(table, position);
    return position;
}

static void prefetch_slots(const kt_table *table, const uint64_t *wanted, size_t n) {
    for (size_t i = 0; i < n; i++) __builtin_prefetch(&table->slots[home_of(table, wanted[i])]);
}

static void prefetch_keys(const kt_table *table, const uint64_t *keys, const uint64_t *wanted, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t slot = table->slots[home_of(table, wanted[i])];
        if (slot != KT_EMPTY) __builtin_prefetch(&keys[slot]);
    }
}

static size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

void kt_find(const kt_table *table, const uint64_t *keys, const uint64_t *wanted, size_t n, int64_t *found) {
    if (!table->capacity) {
        for (size_t i = 0; i < n; i++) found[i] = -1;
        return;
    }
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = min_size(BLOCK, n - start);
        prefetch_slots(table, wanted + start, count);
        prefetch_keys(table, keys, wanted + start, count);
        for (size_t i = start; i < start + count; i++) {
            uint32_t slot = table->slots[probe(table, keys, wanted[i])];
            found[i] = slot == KT_EMPTY ? -1 : (int64_t)slot;
        }
    }
}

static size_t bytes_of(uint64_t capacity) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (capacity * sizeof(uint32_t) + page - 1) / page * page;
}

size_t kt_bytes(const kt_table *table) { return bytes_of(table->capacity); }

void kt_free(kt_table *table) {
    if (table->slots) munmap(table->slots, bytes_of(table->capacity));
    *table = (kt_table){0};
}

/* Pages of their own: a table that is freed goes back to the system at once, whatever its size. */
static uint32_t *allocate_slots(uint64_t capacity) {
    void *memory = mmap(NULL, bytes_of(capacity), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(memory, bytes_of(capacity), MADV_HUGEPAGE);
#endif
    uint32_t *slots = memory;
    for (uint64_t i = 0; i < capacity; i++) slots[i] = KT_EMPTY;
    return slots;
}

/* Positions keep their order in a larger table, so both tables are walked from front to back; only keys are read at
 * random, and those are requested ahead. */
static int grow(kt_table *table, const uint64_t *keys) {
    uint64_t capacity = table->capacity + table->capacity / 4;
    kt_table larger = {NULL, capacity < MIN_CAPACITY ? MIN_CAPACITY : capacity, table->used};
    larger.slots = allocate_slots(larger.capacity);
    if (!larger.slots) return -1;
    for (uint64_t i = 0; i < table->capacity; i++) {
        if (i + BLOCK < table->capacity && table->slots[i + BLOCK] != KT_EMPTY)
            __builtin_prefetch(&keys[table->slots[i + BLOCK]]);
        if (table->slots[i] == KT_EMPTY) continue;
        uint64_t position = home_of(&larger, keys[table->slots[i]]);
        while (larger.slots[position] != KT_EMPTY) position = next_position(&larger, position);
        larger.slots[position] = table->slots[i];
    }
    kt_free(table);
    *table = larger;
    return 0;
}

static int put_one(kt_table *table, const uint64_t *keys, uint32_t slot, int64_t *previous) {
    uint64_t position = probe(table, keys, keys[slot]);
    *previous = table->slots[position] == KT_EMPTY ? -1 : (int64_t)table->slots[position];
    if (*previous < 0) {
        if ((table->used + 1) * 5 > table->capacity * 4) {
            if (grow(table, keys)) return -1;
            position = probe(table, keys, keys[slot]);
        }
        table->used++;
    }
    table->slots[position] = slot;
    return 0;
}

size_t kt_put(kt_table *table, const uint64_t *keys, const int64_t *slots, size_t n, int64_t *previous) {
    uint64_t block[BLOCK];
    if (n && !table->capacity && grow(table, keys)) return 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t count = min_size(BLOCK, n - start);
        for (size_t i = 0; i < count; i++) block[i] = keys[slots[start + i]];
        prefetch_slots(table, block, count);
        prefetch_keys(table, keys, block, count);
        for (size_t i = start; i < start + count; i++)
            if (put_one(table, keys, (uint32_t)slots[i], &previous[i])) return i;
    }
    return n;
}

/* Close the gap: move back every later key of the run whose home is not after the gap. */
static void shift_back(kt_table *table, const uint64_t *keys, uint64_t gap) {
    for (uint64_t at = next_position(table, gap); table->slots[at] != KT_EMPTY; at = next_position(table, at)) {
        uint64_t home = home_of(table, keys[table->slots[at]]);
        uint64_t from_home = at >= home ? at - home : at + table->capacity - home;
        uint64_t from_gap = at >= gap ? at - gap : at + table->capacity - gap;
        if (from_home < from_gap) continue;
        table->slots[gap] = table->slots[at];
        gap = at;
    }
    table->slots[gap] = KT_EMPTY;
    table->used--;
}

void kt_remove(kt_table *table, const uint64_t *keys, const uint64_t *wanted, size_t n, int64_t *found) {
    for (size_t i = 0; i < n; i++) {
        found[i] = -1;
        if (!table->used) continue;
        uint64_t position = probe(table, keys, wanted[i]);
        if (table->slots[position] == KT_EMPTY) continue;
        found[i] = (int64_t)table->slots[position];
        shift_back(table, keys, position);
    }
}
