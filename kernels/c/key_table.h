/* Which slot holds a 64-bit key: open addressing over 32-bit slot numbers. The keys stay in the caller's array. */
#ifndef LOOKALIKE_KEY_TABLE_H
#define LOOKALIKE_KEY_TABLE_H

#include <stddef.h>
#include <stdint.h>

#define KT_EMPTY UINT32_MAX

typedef struct {
    uint32_t *slots; /* the slot of a key, or KT_EMPTY; NULL while capacity is 0 */
    uint64_t capacity, used;
} kt_table;

/* `keys` holds the key of every slot in the table, before and after the call; nothing reads beyond the highest slot. */

/* The slot of each wanted key, or -1. */
void kt_find(const kt_table *table, const uint64_t *keys, const uint64_t *wanted, size_t n, int64_t *found);

/* Map keys[slots[i]] to slots[i], in order; previous[i] is the slot that had the key before, or -1. Returns how many
 * were put: n, or fewer when there is no memory for a larger table. */
size_t kt_put(kt_table *table, const uint64_t *keys, const int64_t *slots, size_t n, int64_t *previous);

/* Remove each wanted key; found[i] is the slot that had it, or -1. */
void kt_remove(kt_table *table, const uint64_t *keys, const uint64_t *wanted, size_t n, int64_t *found);

/* Bytes of memory held, whole pages. */
size_t kt_bytes(const kt_table *table);

void kt_free(kt_table *table);

#endif
